import assert from 'node:assert/strict';
import { type Guest, guestWords } from '../src/guest/guest.ts';
import type { Host } from '../src/host.ts';
import { until } from '../src/until.ts';
import { livesOn, vmState } from './migration-sight.ts';

const PATIENCE = 180_000;

/** What a migration may have left on a host: units, sockets, files, openings of the firewall, in words; empty for nothing. */
const REMAINS = `
systemctl list-units --all --plain --no-legend 'virt-trust-migration-*' 'virt-trust-relay-*' | sed 's/^/unit /'
ss -Htln | awk '{ n = split($4, part, ":"); p = part[n]; if (p == 16518 || (p >= 16520 && p <= 16583) || (p >= 49152 && p <= 49215)) print "port", p }'
find /run/virt-trust/migrations /run/libvirt/qemu -mindepth 1 \\( -path '/run/virt-trust/migrations/*' -o -name 'virt-trust-*' \\) -printf 'file %p\\n' 2>/dev/null
grep -oE '"what": *"(grant|relay)-[^"]*"' /var/lib/virt-trust/agent/firewall.json 2>/dev/null | sed 's/^/opening /'
virt-trust agent status --json 2>/dev/null | grep -oE '"grants": *\\[[^]]+\\]' | sed 's/^/grant /'
true`;

/** Waits until nothing of any migration is left on the hosts: no grant, no socket, no port, no opening, no process. */
export async function nothingLeft(...hosts: readonly Host[]): Promise<void> {
  for (const host of hosts) {
    let left = '';
    await until(`see nothing of a migration on ${host.name}`, PATIENCE, async () => {
      left = (await host.run(['sh', '-c', REMAINS])).trim();
      return left === '' ? true : undefined;
    }).catch((error) => assert.fail(`${error instanceof Error ? error.message : error}: ${left}`));
  }
}

/** Sees that the guest runs on one host, goes on there, and has no process that runs on the other. */
export async function runsOnlyOn(guest: Guest, here: Host, other: Host): Promise<void> {
  assert.equal(await vmState(here, guest.name), 'running', `${guest.name} on ${here.name}`);
  await livesOn(here, guest);
  await until(`see ${guest.name} gone from ${other.name}`, PATIENCE, async () =>
    (await vmState(other, guest.name)) === '' ? true : undefined,
  );
  assert.ok(!(await guestWords(here, guest)).damaged);
}

/** Sees that the guest runs on neither, because nobody can know: it stands paused where it was. */
export async function isFenced(guest: Guest, at: Host): Promise<void> {
  assert.equal(await vmState(at, guest.name), 'paused', `${guest.name} on ${at.name}`);
}
