import assert from 'node:assert/strict';
import type { Host } from '../src/host.ts';
import { until } from '../src/until.ts';

const DIRECTORY = '/run/virt-trust-barrier';
const UNIT = 'virt-trust-agent.service';
const DROP_IN = `/etc/systemd/system/${UNIT}.d/barrier.conf`;
// Before the first, the program is copied to the host.
const STEP_TIMEOUT = 300_000;

/** Holds a host's agent before each step that it takes, by a barrier directory that its service has. */
export class KillPoints {
  readonly #host: Host;

  private constructor(host: Host) {
    this.#host = host;
  }

  /** Gives the service its barrier, also before it is installed; nothing is held until `hold`. */
  static async prepare(host: Host): Promise<KillPoints> {
    await host.writeFile(
      DROP_IN,
      `[Service]\nEnvironment=VIRT_TRUST_BARRIER=${DIRECTORY}\nRestartSec=50ms\n`,
    );
    const points = new KillPoints(host);
    await points.release();
    return points;
  }

  /** From now on every step waits. */
  async hold(): Promise<void> {
    await this.#sh(`rm -rf ${DIRECTORY}; mkdir ${DIRECTORY}`);
  }

  /** No step waits any more. */
  async release(): Promise<void> {
    await this.#sh(`mkdir -p ${DIRECTORY}; for i in $(seq 0 99); do : >${DIRECTORY}/go-$i; done`);
  }

  /**
   * Kills the agent before every step that `work` takes, one after the other, and calls `look` each time while it is
   * dead or held again; each time it must come back to the very step. Returns the steps' names once the work is over.
   */
  async killAtEach(work: Promise<unknown>, look: (step: string) => Promise<void>): Promise<string[]> {
    const steps: string[] = [];
    for (let index = 0; ; index++) {
      const step = await this.#reached(index, steps.at(-1), work);
      if (step === undefined) {
        await work;
        return steps;
      }
      steps.push(step);
      // What the dead one reached is taken away first, so that what is seen afterwards is from the next one.
      await this.#sh(`rm -f ${DIRECTORY}/reached-*; systemctl kill --kill-whom=main --signal=KILL ${UNIT}`);
      await look(step);
      await this.#sh(`: >${DIRECTORY}/go-${index}`);
    }
  }

  /** The step of an index once the agent waits before it; undefined where the work is over before. */
  async #reached(
    index: number,
    before: string | undefined,
    work: Promise<unknown>,
  ): Promise<string | undefined> {
    let over = false;
    const end = () => {
      over = true;
    };
    work.then(end, end);
    const names = await until(`see the agent at step ${index}, after ${before}`, STEP_TIMEOUT, async () => {
      const wasOver = over;
      const { stdout } = await this.#host.exec(['ls', DIRECTORY]);
      const reached = stdout.split('\n').filter((name) => name.startsWith('reached-'));
      if (reached.some((name) => name.startsWith(`reached-${index}-`))) return reached;
      return wasOver ? null : undefined;
    });
    if (names === null) return undefined;
    assert.ok(
      before === undefined || names.includes(`reached-${index - 1}-${before}`),
      `killed before ${before}, it came back to ${names.join(' ')}`,
    );
    return names.find((name) => name.startsWith(`reached-${index}-`))?.slice(`reached-${index}-`.length);
  }

  async #sh(script: string): Promise<void> {
    await this.#host.run(['sh', '-c', script]);
  }
}
