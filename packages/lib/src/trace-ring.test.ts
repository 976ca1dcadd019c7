import { describe, expect, it } from 'vitest';
import { KernelBug } from './assert.ts';
import { TraceRing } from './trace-ring.ts';

describe('TraceRing', () => {
  it('records what is switched on, with the time of the clock', () => {
    const clock = { now: 100 };
    const trace = new TraceRing(8, clock);
    const alloc = trace.define('mm_page_alloc', ['pfn', 'order']);
    const free = trace.define('mm_page_free', ['pfn']);
    expect(trace.enabled).toBe(false);
    trace.emit(alloc, 1, 2);
    expect(trace.length).toBe(0);
    expect(trace.enable('mm_page_alloc')).toBe(true);
    expect([trace.enabled, trace.isEnabled(alloc), trace.isEnabled(free)]).toEqual([true, true, false]);
    trace.emit(alloc, 7, 3);
    trace.emit(free, 7);
    clock.now = 250;
    trace.emit(alloc, 8, 0);
    expect([...trace]).toEqual([
      { name: 'mm_page_alloc', time: 100, fields: { pfn: 7, order: 3 } },
      { name: 'mm_page_alloc', time: 250, fields: { pfn: 8, order: 0 } },
    ]);
    trace.disable('mm_page_alloc');
    expect(trace.enabled).toBe(false);
    expect(trace.enable('no such event')).toBe(false);
  });

  it('drops the oldest when full and counts them', () => {
    const trace = new TraceRing(100);
    const tick = trace.define('tick', ['n']);
    trace.enable();
    for (let i = 0; i < 250; i++) trace.emit(tick, i);
    expect([trace.length, trace.dropped, trace.written]).toEqual([100, 150, 250]);
    expect([...trace].map((record) => record.fields.n)).toEqual(Array.from({ length: 100 }, (_, i) => i + 150));
    expect([trace.at(-1), trace.at(100)]).toEqual([undefined, undefined]);
    trace.clear();
    expect([trace.length, trace.dropped, trace.written]).toEqual([0, 0, 250]);
    trace.emit(tick, 1);
    expect([...trace].map((record) => record.fields.n)).toEqual([1]);
    trace.disable();
    expect(trace.enabled).toBe(false);
  });

  it('keeps a definition and refuses another of the same name', () => {
    const trace = new TraceRing(4);
    const id = trace.define('a', ['x']);
    expect(trace.define('a', ['x'])).toBe(id);
    expect(() => trace.define('a', ['y'])).toThrow(KernelBug);
    expect(() => trace.define('b', ['1', '2', '3', '4', '5'])).toThrow(KernelBug);
    for (let i = 0; i < 200; i++) expect(trace.define(`e${i}`, [])).toBe(i + 1);
    trace.enable('e150');
    trace.emit(151);
    expect([...trace]).toEqual([{ name: 'e150', time: 0, fields: {} }]);
    expect(trace.events).toHaveLength(201);
  });

  it('tells its users when the first event is switched on, and the last one off', () => {
    const ring = new TraceRing(4);
    const seen: boolean[] = [];
    ring.define('a', []);
    ring.define('b', []);
    ring.addUser({ traceSwitched: (enabled) => seen.push(enabled) });
    ring.enable('a');
    ring.enable();
    ring.disable('a');
    expect(seen).toEqual([true]);
    ring.disable('b');
    ring.disable();
    expect(seen).toEqual([true, false]);
  });
});
