import { constants } from 'node:os';
import { TrustError } from '@virt-trust/base/error.ts';

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** That somebody asked to stop, or that something broke in the background. */
export interface Interruption {
  readonly signal: AbortSignal;
  /** 128 + the signal's number, as a shell says it; undefined if no signal came. */
  readonly exitCode: number | undefined;
  /** Ends when somebody asks to stop; throws what broke in the background. */
  wait(): Promise<void>;
}

/**
 * Listens for Ctrl-C and its kin. One may arrive twice (from the terminal and from npm) and the second is no reason
 * to hurry: what was begun to be taken down is taken down.
 */
export function listenForInterruption(): Interruption {
  const controller = new AbortController();
  let exitCode: number | undefined;
  for (const name of SIGNALS) {
    process.on(name, () => {
      if (controller.signal.aborted) return;
      exitCode = 128 + constants.signals[name];
      controller.abort(new TrustError('start.interrupted', 'failed', `stopped by ${name}`));
    });
  }
  // Whoever reads along may go away (head, say): then nobody is there to use what runs.
  process.stdout.on('error', () => {
    exitCode ??= 128 + constants.signals.SIGPIPE;
    controller.abort(new TrustError('start.interrupted', 'failed', 'stopped: nobody reads the output'));
  });
  process.on('uncaughtException', (error) => controller.abort(error));
  return {
    signal: controller.signal,
    get exitCode() {
      return exitCode;
    },
    async wait() {
      // A promise alone does not keep the process alive.
      const alive = setInterval(() => {}, 2 ** 30);
      await new Promise<void>((resolve) => {
        if (controller.signal.aborted) resolve();
        else controller.signal.addEventListener('abort', () => resolve(), { once: true });
      });
      clearInterval(alive);
      if (exitCode === undefined) throw controller.signal.reason;
    },
  };
}
