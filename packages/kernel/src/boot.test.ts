import { expect, test } from 'vitest';
import { boot } from './boot.ts';

test('boots and runs a program', () => {
  const machine = boot({ memory: '1G' });
  const result = machine.run((os) => {
    const p = os.mmap(0, 8192, 3, 0x22);
    os.mem.store32(p, 42);
    const pid = os.fork((child) => {
      child.mem.store32(p, 43);
      return child.mem.load32(p);
    });
    const wait = os.waitpid(pid);
    os.print(`${JSON.stringify(wait)} ${os.mem.load32(p)}`);
    os.print(os.readFile('/proc/self/maps'));
    return 7;
  });
  expect(machine.consoleText).toContain('{"pid":101,"status":43,"signal":null} 42');
  expect(result).toMatchObject({ status: 7, signal: null });
  machine.validate();
});
