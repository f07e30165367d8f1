import { buildProgram } from '../../tools/build.ts';

/** The one executable, built once for all stories of this run. */
export function programPath(): Promise<string> {
  return buildProgram();
}
