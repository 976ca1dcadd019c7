import { expect, test } from 'vitest';
import { DEFAULT_COSTS, VirtualClock } from './index.ts';

test('time passes only where it is advanced; the costs are positive, and fixed', () => {
  const clock = new VirtualClock();
  clock.advance(1.5);
  clock.advance(DEFAULT_COSTS.syscall);
  expect(clock.now).toBe(1.5 + DEFAULT_COSTS.syscall);
  expect(Object.values(DEFAULT_COSTS).every((ns) => ns > 0)).toBe(true);
  expect(Object.isFrozen(DEFAULT_COSTS)).toBe(true);
});
