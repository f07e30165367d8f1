import { isDeepStrictEqual } from 'node:util';
import type { DesiredSettings } from '@virt-trust/contract/model/desired-state.ts';

/** What of a host's settings can be another than it has. */
export type DueSetting = keyof DesiredSettings;

/** What is wanted of a host, and which addresses announcements may go to besides. */
export interface WantedSettings {
  readonly settings: DesiredSettings;
  /** Of the manager's own machine: known to a host or not, whichever its routes made of them at the time. */
  readonly isOwnAddress: (address: string) => boolean;
}

/** Each where the host has it, in words: the key of the file where there is one. */
const WORDS: Readonly<Record<DueSetting, (value: DesiredSettings) => string>> = {
  tls: ({ tls }) => `TLS ${tls}`,
  migrationWaitSeconds: ({ migrationWaitSeconds }) =>
    `restarts wait ${migrationWaitSeconds} s for migrations`,
  plainTcp: ({ plainTcp }) => `plain TCP ${plainTcp === 'off' ? 'off' : 'as it was found'}`,
  vncTls: ({ vncTls }) => `vnc_tls ${vncTls === 'on' ? 'on' : 'as it was found'}`,
  spiceTls: ({ spiceTls }) => `spice_tls ${spiceTls === 'on' ? 'on' : 'as it was found'}`,
  probeSeconds: ({ probeSeconds }) => `endpoints are looked at every ${probeSeconds} s`,
  migrateTls: ({ migrateTls }) => `migrate_tls_force ${migrateTls === 'force' ? 'on' : 'as it was found'}`,
  clientDns: ({ clientDns }) => `tls_allowed_dn_list with ${clientDns.length} of ours`,
  migrationHost: ({ migrationHost }) => `migration_host ${migrationHost ?? 'as it was found'}`,
  consoles: ({ consoles }) => `displays ${consoles === 'keep' ? 'as they were found' : consoles}`,
  announceTo: ({ announceTo }) =>
    `it makes itself known to ${announceTo.map(({ address, port }) => `${address} port ${port}`).join(', ') || 'nobody'}`,
};

/** Where TLS is off, nothing else is in force. */
const WITHOUT_TLS: ReadonlySet<DueSetting> = new Set(['tls', 'announceTo']);

/** What of a host's settings is to be another than the host has; pure. */
export function dueSettings(has: DesiredSettings, { settings, isOwnAddress }: WantedSettings): DueSetting[] {
  const keys = Object.keys(settings) as DueSetting[];
  const isOff = has.tls === 'off' && settings.tls === 'off';
  return keys.filter((key) => {
    if (isOff && !WITHOUT_TLS.has(key)) return false;
    if (key === 'announceTo') return announcesElsewhere(has[key], settings[key], isOwnAddress);
    return !isDeepStrictEqual(has[key], settings[key]);
  });
}

/** Due settings for people: as they are to be, and as the host has them. */
export function dueInWords(has: DesiredSettings, { settings }: WantedSettings, due: readonly DueSetting[]) {
  return due.map((key) => `${WORDS[key](settings)}, there still: ${WORDS[key](has)}`.slice(0, 1000));
}

type Announced = DesiredSettings['announceTo'];

function announcesElsewhere(has: Announced, wanted: Announced, isOwn: (address: string) => boolean): boolean {
  const keyOf = ({ address, port }: Announced[number]) => `${address} ${port}`;
  const [known, shall] = [has, wanted].map((all) => new Set(all.map(keyOf)));
  return (
    wanted.some((one) => known?.has(keyOf(one)) !== true) ||
    has.some((one) => shall?.has(keyOf(one)) !== true && !isOwn(one.address))
  );
}
