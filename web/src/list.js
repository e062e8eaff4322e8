// A list of any length, of which only the rows that can be seen are elements. Used as a treegrid, by keyboard as well.
import { Virtualizer, defaultRangeExtractor, elementScroll, observeElementOffset, observeElementRect } from "@tanstack/virtual-core";
import { useEffect, useLayoutEffect, useReducer, useRef, useState } from "preact/hooks";
import { html } from "./words.js";

export const ROW = 25;

export function useVirtual(scroller, count, pinned) {
  const [, redraw] = useReducer((times) => times + 1, 0);
  const options = {
    count,
    getScrollElement: () => scroller.current,
    estimateSize: () => ROW,
    observeElementRect,
    observeElementOffset,
    scrollToFn: elementScroll,
    overscan: 12,
    onChange: () => redraw(),
    // what the keyboard is at stays an element, wherever the list was scrolled to
    rangeExtractor: (range) => {
      const rows = defaultRangeExtractor(range);
      return pinned >= 0 && pinned < count && !rows.includes(pinned) ? [...rows, pinned].sort((a, b) => a - b) : rows;
    },
  };
  const [virtual] = useState(() => new Virtualizer(options));
  virtual.setOptions(options);
  useEffect(() => virtual._didMount(), []);
  useLayoutEffect(() => virtual._willUpdate());
  return virtual;
}

// Props: label, count, at (the chosen index), choose(index), row(index) -> {props, cells}, head, keys(event, index) -> bool
export function Grid({ label, count, at, choose, row, head, keys, prints, id, columns }) {
  const scroller = useRef(null);
  const virtual = useVirtual(scroller, count, at);
  const first = useRef(true);
  useLayoutEffect(() => {
    if (at >= 0 && at < count) virtual.scrollToIndex(at, { align: first.current ? "center" : "auto" });
    first.current = false;
  }, [at, count]);
  const onKeyDown = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const page = Math.max(1, Math.floor((scroller.current?.clientHeight ?? 250) / ROW) - 2);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: count - 1, PageDown: at + page, PageUp: at - page }[event.key];
    if (to !== undefined) choose(Math.min(Math.max(to, 0), count - 1));
    if (to !== undefined || keys?.(event, at)) event.preventDefault();
  };
  const item = (index, top) => {
    const { props, cells } = row(index);
    return html`<div role="row" key=${index} id=${`${id}-${index}`} aria-rowindex=${index + 2} aria-selected=${index === at}
      onClick=${() => choose(index)} ...${props} class=${"tr " + (props.class ?? "")}
      style=${top === null ? undefined : { transform: `translateY(${top}px)` }}>${cells}</div>`;
  };
  const rows = prints ? Array.from({ length: Math.min(count, prints) }, (_, index) => item(index, null)) : virtual.getVirtualItems().map(({ index, start }) => item(index, start));
  return html`<div class=${"grid " + columns} ref=${scroller} role="treegrid" aria-label=${label} aria-rowcount=${count + 1} tabindex="0"
    aria-activedescendant=${at >= 0 && at < count ? `${id}-${at}` : undefined} onKeyDown=${onKeyDown}>
    <div role="rowgroup" class="th"><div role="row" class="tr" aria-rowindex="1">${head}</div></div>
    <div role="rowgroup" class=${prints ? "all" : "body"} style=${{ height: prints ? "auto" : `${virtual.getTotalSize()}px` }}>${rows}</div></div>`;
}
