"""MiniSpace: GenSpace's nine spatial sub-domains (arXiv 2505.24870), scored in the Mini's world."""
