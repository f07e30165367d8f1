import { randomUUID } from 'node:crypto';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describeError, TrustError } from '@virt-trust/base/error.ts';
import { instant, SECOND } from '@virt-trust/base/instant.ts';
import { virshDomain } from '@virt-trust/base/virsh-domain.ts';
import { systemSleep } from '@virt-trust/channel/sleep.ts';
import { type QemuProcess, readQemuProcesses } from '@virt-trust/check/host/qemu-process.ts';
import type {
  ConsolePassword,
  ConsoleType,
  VmDisplay,
  VmDisplays,
} from '@virt-trust/contract/model/console.ts';
import type { AgentContext } from '../ports/agent-context.ts';
import { makeConsolePassword } from './console-password.ts';
import { displaysOf } from './displays.ts';
import { findGraphics, type GraphicsElement, withoutPassword, withPassword } from './graphics-xml.ts';
import { type VisitWatch, type WatchVisits, watchVisits } from './visits.ts';

const VIRSH = ['-c', 'qemu:///system'];
const VIRSH_MS = 20_000;
/** How long after a client came in its password still goes: SPICE opens a connection for each of its channels. */
const GRACE_MS: Readonly<Record<ConsoleType, number>> = { vnc: 0, spice: 5 * SECOND };
/**
 * How long QEMU 7.2 takes a password beyond the time that it is told: VNC to the end of that second, SPICE counts whole
 * seconds of another clock besides, which begin at another moment.
 */
const LATE_MS: Readonly<Record<ConsoleType, number>> = { vnc: SECOND, spice: 2 * SECOND };
/** Visits that are awaited at once; each is a process. */
const LIMIT = 64;

interface Visit {
  readonly watch: VisitWatch;
  readonly until: number;
}

type ConsolesContext = Pick<AgentContext, 'paths' | 'run' | 'clock' | 'randomness' | 'log' | 'record'>;

/** The displays of this host's VMs, and passwords for one visit of them. */
export class Consoles {
  readonly #context: ConsolesContext;
  readonly #watchVisits: WatchVisits;
  readonly #graceMs: Readonly<Record<ConsoleType, number>>;
  /** By VM and type; one that is replaced is not cleaned up by its own end any more. */
  readonly #visits = new Map<string, Visit>();
  readonly #stop = new AbortController();
  #last: Promise<unknown> = Promise.resolve();

  private constructor(context: ConsolesContext, watch: WatchVisits, graceMs: typeof GRACE_MS) {
    this.#context = context;
    this.#watchVisits = watch;
    this.#graceMs = graceMs;
  }

  static async open(
    context: ConsolesContext,
    watch: WatchVisits = watchVisits,
    graceMs = GRACE_MS,
  ): Promise<Consoles> {
    // What an agent that was killed left behind.
    await rm(directoryOf(context), { recursive: true, force: true });
    return new Consoles(context, watch, graceMs);
  }

  /** The display servers of a running VM; throws `console.not_running`. */
  async displays(vm: string): Promise<VmDisplays> {
    const found = await this.#running(vm);
    return { uuid: found.uuid, vm, displays: displaysOf(found).slice(0, 16) };
  }

  /**
   * Makes the password of a display for one visit, in place of an earlier one. QEMU itself refuses it after its time,
   * also while this agent is away. Throws `console.no_display`, `console.no_password`, `console.own_password`.
   */
  async createPassword(vm: string, type: ConsoleType, seconds: number): Promise<ConsolePassword> {
    // One at a time, so that a withdrawal never takes away what came after it.
    return await this.#inTurn(async () => {
      const found = await this.#running(vm);
      const { port, tlsPort } = this.#displayWithPassword(found, type);
      const element = await this.#graphics(found, type);
      if (element.password !== null && element.password !== '' && !element.expires)
        throw ownPassword(vm, type);
      const key = `${found.uuid} ${type}`;
      this.#visits.get(key)?.watch.stop();
      if (!this.#visits.has(key) && this.#visits.size >= LIMIT) throw tooMany(vm);
      const watch = await this.#watchVisits(
        found,
        [port, tlsPort].filter((one) => one !== null),
        seconds,
      );
      const { clock, randomness, record } = this.#context;
      const password = makeConsolePassword(type, randomness);
      // libvirt knows whole seconds.
      const expiresAt = instant(Math.floor((clock.now() + seconds * SECOND) / SECOND) * SECOND);
      const visit = { watch, until: expiresAt };
      this.#visits.set(key, visit);
      try {
        // SECURITY: so that QEMU lets nobody in after the time that we tell.
        const validTo = new Date(expiresAt - LATE_MS[type]);
        await this.#update(found.uuid, withPassword(element, password, validTo));
      } catch (error) {
        watch.stop();
        this.#visits.delete(key);
        throw error;
      }
      void this.#await(found, type, visit);
      await record('console.opened', vm, `a password of its ${type} display, for ${seconds} s`);
      return { password, expiresAt };
    });
  }

  async close(): Promise<void> {
    this.#stop.abort();
    for (const { watch } of this.#visits.values()) watch.stop();
    await this.#last;
  }

  /** Withdraws the password once a client came in with it, or its time is over. */
  async #await({ uuid, name }: QemuProcess, type: ConsoleType, visit: Visit): Promise<void> {
    const key = `${uuid} ${type}`;
    const { clock, record, log } = this.#context;
    const visited = await visit.watch.visited;
    // One whose watch ended early, with libvirt's daemon say, is still good for its time.
    const waitMs = visited ? this.#graceMs[type] : Math.max(0, visit.until - clock.now());
    await systemSleep(waitMs, this.#stop.signal).catch(() => {});
    visit.watch.stop();
    if (this.#stop.signal.aborted) return;
    try {
      await this.#inTurn(async () => {
        if (this.#visits.get(key) !== visit) return;
        this.#visits.delete(key);
        const running = (await readQemuProcesses(this.#context.paths)).find((one) => one.uuid === uuid);
        if (running === undefined) return;
        await this.#update(uuid, withoutPassword(await this.#graphics(running, type)));
        await record(
          visited ? 'console.visited' : 'console.expired',
          name,
          `the password of its ${type} display lets nobody in any more`,
        );
      });
    } catch (error) {
      // QEMU refuses it all the same, once its time is over.
      log.warn({ vm: name, reason: describeError(error) }, 'cannot withdraw the password of a display');
    }
  }

  async #running(vm: string): Promise<QemuProcess> {
    const found = (await readQemuProcesses(this.#context.paths)).find(({ name }) => name === vm);
    if (found !== undefined) return found;
    throw new TrustError(
      'console.not_running',
      'not-found',
      `cannot find the displays of VM ${vm}: it does not run on this host`,
      { hint: `start it: virsh start ${virshDomain({ name: vm, uuid: null })}` },
    );
  }

  #displayWithPassword(found: QemuProcess, type: ConsoleType): VmDisplay {
    const display = displaysOf(found).find((one) => one.type === type);
    if (display === undefined)
      throw new TrustError(
        'console.no_display',
        'not-found',
        `cannot make a password for VM ${found.name}: it has no ${type} display on the network`,
      );
    // SECURITY: QEMU takes a password then too, and asks nobody for it.
    if (display.authentication === 'password' || display.authentication === 'certificate-and-password')
      return display;
    throw new TrustError(
      'console.no_password',
      'conflict',
      `cannot make a password for the ${type} display of VM ${found.name}: it was started without passwords`,
      {
        hint: 'set console.listen to password, provision the host (virt-trust host provision), then stop and start the VM, or migrate it to a host that has it',
      },
    );
  }

  async #graphics({ uuid, name }: QemuProcess, type: ConsoleType): Promise<GraphicsElement> {
    // SECURITY: with a password in it, which is told to nobody.
    const { stdout } = await this.#context.run('virsh', [...VIRSH, 'dumpxml', '--security-info', uuid], {
      timeoutMs: VIRSH_MS,
    });
    const element = findGraphics(stdout, type);
    if (element !== undefined) return element;
    throw new TrustError(
      'console.no_display',
      'not-found',
      `cannot make a password for VM ${name}: libvirt knows no ${type} display of it`,
    );
  }

  /**
   * Has libvirt itself set password and expiry in QEMU, which unlike a command to QEMU's monitor marks no VM as tainted.
   *
   * SECURITY: by a file that root alone reads, in memory: every user sees the arguments of programs.
   */
  async #update(uuid: string, xml: string): Promise<void> {
    const directory = directoryOf(this.#context);
    const file = join(directory, randomUUID());
    await mkdir(directory, { recursive: true, mode: 0o700 });
    try {
      await writeFile(file, xml, { mode: 0o600, flag: 'wx' });
      await this.#context.run('virsh', [...VIRSH, 'update-device', uuid, file, '--live'], {
        timeoutMs: VIRSH_MS,
      });
    } finally {
      await rm(file, { force: true });
    }
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#last.then(work, work);
    this.#last = turn.catch(() => {});
    return turn;
  }
}

function directoryOf({ paths }: ConsolesContext): string {
  return join(paths.run, 'consoles');
}

function ownPassword(vm: string, type: ConsoleType): TrustError {
  return new TrustError(
    'console.own_password',
    'conflict',
    `cannot make a password for the ${type} display of VM ${vm}: its configuration gives it one of its own`,
    {
      hint: `take passwd out of its <graphics> element: virsh edit ${virshDomain({ name: vm, uuid: null })}`,
    },
  );
}

function tooMany(vm: string): TrustError {
  return new TrustError(
    'console.too_many',
    'unavailable',
    `cannot make a password for VM ${vm}: ${LIMIT} visits are awaited on this host already`,
    { hint: 'try again when their time is over' },
  );
}
