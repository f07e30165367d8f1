import { describeError } from '@virt-trust/base/error.ts';

/** What a soak counts. */
export type SoakKind = 'libvirt handshake' | 'VNC handshake' | 'VM start' | 'migration' | 'renewal';
const SOAK_KINDS: readonly SoakKind[] = [
  'libvirt handshake',
  'VNC handshake',
  'VM start',
  'migration',
  'renewal',
];

export interface SoakFailure {
  readonly kind: SoakKind;
  readonly what: string;
  readonly why: string;
  /** Of the machine's clock. */
  readonly at: Date;
}

/** Counts what was done and what of it failed. */
export class Tally {
  readonly #done = new Map<SoakKind, number>();
  readonly failures: SoakFailure[] = [];

  /** How often it was done, failed or not. */
  count(kind: SoakKind): number {
    return this.#done.get(kind) ?? 0;
  }

  /** Runs what is counted; a failure is kept and told, not thrown. Undefined where it failed. */
  async run<T>(
    kind: SoakKind,
    what: string,
    work: () => Promise<T>,
    tell: (failure: SoakFailure) => void = () => {},
  ): Promise<T | undefined> {
    this.#done.set(kind, this.count(kind) + 1);
    try {
      return await work();
    } catch (error) {
      const failure = { kind, what, why: describeError(error), at: new Date() };
      this.failures.push(failure);
      tell(failure);
      return undefined;
    }
  }

  /** One line for each kind, then the first failures. */
  lines(): string[] {
    const kinds = SOAK_KINDS.map((kind) => {
      const failed = this.failures.filter((failure) => failure.kind === kind).length;
      return `${kind.padEnd(18)} ${String(this.count(kind)).padStart(7)} done, ${failed} failed`;
    });
    const first = this.failures
      .slice(0, 20)
      .map(({ kind, what, why, at }) => `${at.toISOString()} ${kind} of ${what}: ${why}`);
    const more = this.failures.length - first.length;
    return [...kinds, ...first, ...(more > 0 ? [`and ${more} failures more`] : [])];
  }
}
