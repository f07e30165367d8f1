import { networkInterfaces } from 'node:os';
import { clientDnGlobs } from './client-dns.ts';
import { desiredSettingsOf } from './desired-state.ts';
import type { WantedSettings } from './due-settings.ts';
import type { Host } from './host.ts';
import type { HostsContext } from './ports.ts';
import { knownManagerAddresses } from './readdressing.ts';

/** As many as the contract has room for. */
export const MOST_ANNOUNCED = 32;

/** What settings, gates and interfaces say of a host now, and where it shall make itself known at least. */
export async function wantedSettings(
  host: Host,
  context: Pick<HostsContext, 'settingsOf' | 'announcePort'>,
): Promise<WantedSettings> {
  const settings = await context.settingsOf(host);
  const port = context.announcePort();
  // While nobody listens there is nothing to tell hosts, and what they know does no harm.
  const addresses = port === null ? [] : knownManagerAddresses(host, settings).slice(0, MOST_ANNOUNCED);
  const own = ownAddresses();
  return {
    settings: desiredSettingsOf({
      ...settings,
      host,
      clientDns: clientDnGlobs(settings.organization),
      announceTo: addresses.map((address) => ({ address, port: port ?? 0 })),
    }),
    isOwnAddress: (address) => port === null || own.has(address),
  };
}

function ownAddresses(): ReadonlySet<string> {
  return new Set(
    Object.values(networkInterfaces()).flatMap((all) => (all ?? []).map(({ address }) => address)),
  );
}
