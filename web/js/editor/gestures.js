/** Dragging with mouse, pen and finger. */

/**
 * @typedef {object} Drag what a press on an element begins
 * @property {(event: PointerEvent) => void} move
 * @property {() => void} end
 * @property {() => void} cancel
 */

/**
 * Listen to presses on an element. One pointer drags; what a second one does, `onPinch` decides.
 * @param {Element} element
 * @param {object} events
 * @param {(event: PointerEvent) => Drag | null} events.onPress null: there is nothing to drag
 * @param {(from: PointerEvent[], to: PointerEvent[]) => void} [events.onPinch] two fingers moved
 */
export function listenToDrags(element, { onPress, onPinch }) {
  /** @type {Map<number, PointerEvent>} */
  const pressed = new Map();
  /** @type {{drag: Drag, pointer: number} | null} */
  let current = null;

  const stop = (how) => {
    const { drag } = current ?? {};
    current = null;
    drag?.[how]();
  };

  element.addEventListener("pointerdown", (event) => {
    // The canvas of the host is below: it must not move the node.
    event.stopPropagation();
    if (event.pointerType === "mouse" && event.button !== 0 && event.button !== 1) return;
    pressed.set(event.pointerId, event);
    if (pressed.size > 1) {
      stop("cancel");
      return;
    }
    const drag = onPress(event);
    if (!drag) return;
    current = { drag, pointer: event.pointerId };
    capture(element, event.pointerId);
  });
  element.addEventListener("pointermove", (event) => {
    event.stopPropagation();
    if (pressed.size > 1 && pressed.has(event.pointerId)) {
      const from = [...pressed.values()].slice(0, 2);
      pressed.set(event.pointerId, event);
      onPinch?.(from, [...pressed.values()].slice(0, 2));
    } else if (current?.pointer === event.pointerId) current.drag.move(event);
  });
  for (const [type, how] of [["pointerup", "end"], ["pointercancel", "cancel"], ["lostpointercapture", "end"]]) {
    element.addEventListener(type, (event) => {
      event.stopPropagation();
      pressed.delete(event.pointerId);
      if (current?.pointer === event.pointerId) stop(how);
    });
  }
  return { cancel: () => stop("cancel"), get isDragging() { return current !== null; } };
}

/** Moves outside of the element come too. A pointer that is gone, as in tests, cannot be captured. */
function capture(element, pointerId) {
  try {
    element.setPointerCapture(pointerId);
  } catch (error) {
    if (error.name !== "NotFoundError") throw error;
  }
}

/** Where an event is in an element of this width and height, which may be shown larger or smaller. */
export function placeIn(element, event, width, height) {
  const box = element.getBoundingClientRect();
  return [((event.clientX - box.left) / box.width) * width, ((event.clientY - box.top) / box.height) * height];
}
