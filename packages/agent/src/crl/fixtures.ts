import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { DAY, type Instant, instant } from '@virt-trust/base/instant.ts';
import type { Service } from '@virt-trust/contract/model/service.ts';
import type { Issuer } from '@virt-trust/pki/certificate-issue.ts';
import { issueCrl } from '@virt-trust/pki/crl-issue.ts';
import type { CrlReason } from '@virt-trust/pki/crl-reason.ts';
import { encodePem } from '@virt-trust/pki/pem.ts';
import type { SerialNumber } from '@virt-trust/pki/serial-number.ts';
import type { Session } from '../services/sessions.ts';
import { LAYOUTS } from '../sets/layout.ts';
import type { AgentPaths } from '../state/paths.ts';
import type { CrlEffects } from './effects.ts';

/** For tests: a CRL in PEM. */
export function crlOf(
  { issuer }: { readonly issuer: Issuer },
  number: number,
  options: {
    readonly serials?: readonly string[];
    readonly reason?: CrlReason;
    readonly thisUpdate?: Instant;
    readonly nextUpdate?: Instant;
  } = {},
): string {
  const now = Math.floor(Date.now() / 1000) * 1000;
  const { thisUpdate = instant(now - DAY), nextUpdate = instant(now + 7 * DAY) } = options;
  const entries = (options.serials ?? []).map((serial) => ({
    serialNumber: serial as SerialNumber,
    revocationDate: thisUpdate,
    reason: options.reason ?? 'unspecified',
  }));
  return encodePem('X509 CRL', issueCrl(issuer, { number: BigInt(number), thisUpdate, nextUpdate, entries }));
}

/** For tests: a host without processes; what a daemon has loaded is a file of its own. */
export class FileCrlEffects implements CrlEffects {
  readonly #paths: AgentPaths;
  /** What attempts to load end with, one after the other, before they succeed. */
  refusals: string[] = [];
  isStopped = false;
  open: Session[] = [];
  names = true;
  readonly cuts: string[] = [];

  constructor(paths: AgentPaths) {
    this.#paths = paths;
  }

  async load(service: Service): Promise<void> {
    const refusal = this.refusals.shift();
    if (refusal !== undefined) throw new Error(refusal);
    await writeFile(loadedFile(this.#paths, service), (await readCrl(this.#paths, service)) ?? '');
  }

  async stopped(): Promise<boolean> {
    return this.isStopped;
  }

  async sessions(): Promise<Session[]> {
    return this.open;
  }

  async namesEverySession(): Promise<boolean> {
    return this.names;
  }

  async cut(sessions: readonly Session[]): Promise<void> {
    const ids = sessions.map(({ id }) => id);
    this.cuts.push(...ids);
    this.open = this.open.filter(({ id }) => !ids.includes(id));
  }
}

/** For tests: what a service reads as its CRL, through all links; undefined where there is none. */
export async function readCrl(paths: AgentPaths, service: keyof typeof LAYOUTS): Promise<string | undefined> {
  const { crl, links } = LAYOUTS[service];
  const path = links.find(({ name }) => name === crl)?.path;
  if (path === undefined) return undefined;
  return await readFile(paths.at(path), 'utf8').catch(() => undefined);
}

/** For tests: what a service's daemon loaded last. */
export async function readLoaded(paths: AgentPaths, service: keyof typeof LAYOUTS): Promise<string> {
  return await readFile(loadedFile(paths, service), 'utf8').catch(() => '');
}

function loadedFile(paths: AgentPaths, service: string): string {
  return join(paths.root, `loaded-${service}`);
}
