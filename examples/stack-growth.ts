/**
 * A stack grows when the address below it is touched, as far as its limit; a guard gap keeps it from what lies below.
 */
import { PAGE_SIZE, RLIMIT_STACK, SIGSEGV, signalCodeName } from '@pagelab/abi';
import type { Os } from '@pagelab/abi';
import { mapsLines } from './shared/proc.ts';

export default function stackGrowth(os: Os): void {
  const stack = (): { low: number; high: number } => {
    const [line] = mapsLines(os, /\[stack\]/);
    const [low, high] = line!.split(' ')[0]!.split('-').map((hex) => parseInt(hex, 16));
    return { low: low!, high: high! };
  };
  const sizeKb = (): number => (stack().high - stack().low) / 1024;

  os.print(`at the start: ${sizeKb()} KiB`);
  os.mem.store8(stack().low - 1, 1);
  os.print(`touched the page below: ${sizeKb()} KiB`);
  os.mem.store8(stack().high - (1 << 20), 1);
  os.print(`touched 1 MiB below the top: ${sizeKb()} KiB mapped, only the touched pages resident`);

  const limit = os.getrlimit(RLIMIT_STACK).cur;
  os.mem.store8(stack().high - limit, 1);
  os.print(`touched the last page of the limit: ${sizeKb()} KiB`);
  try {
    os.sigaction(SIGSEGV, ({ signo, code, addr }) => {
      throw new Error(`${signalCodeName(signo, code)} ${(stack().high - addr) / 1024} KiB below the top`);
    });
    os.mem.store8(stack().high - limit - PAGE_SIZE, 1);
  } catch (error) {
    os.print(`a page more: ${(error as Error).message}`);
  }
}
