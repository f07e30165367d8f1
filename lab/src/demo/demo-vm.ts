import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { TrustError } from '@virt-trust/base/error.ts';
import type { ManagerClient } from '@virt-trust/cli/manager-client.ts';
import { getAuthority } from '@virt-trust/contract/manager/certificate-operations.ts';
import { collectHost } from '@virt-trust/contract/manager/host-operations.ts';
import { createMigrationJob } from '@virt-trust/contract/manager/migration-operations.ts';
import { listSettings } from '@virt-trust/contract/manager/setting-operations.ts';
import { exec } from '../command.ts';
import type { Host } from '../host.ts';
import type { Lab } from '../lab.ts';
import { labDirectory } from '../paths.ts';
import { runningVms, startVm } from '../vm.ts';
import { showJob } from './job-steps.ts';
import type { Steps } from './steps.ts';

export const VM = 'vm1';

/** The file with the authority that viewers of the VM's display trust. */
export function consoleAuthorityFile(lab: string): string {
  return join(labDirectory(lab), 'console-ca.pem');
}

/** Starts the VM on the first host unless one of them has it; returns where it is. */
export function startDemoVm(
  client: ManagerClient,
  lab: Lab,
  steps: Steps,
  signal: AbortSignal,
): Promise<Host> {
  return steps.run(
    `Start VM ${VM}`,
    async ({ conclude }) => {
      const [first] = lab.hosts;
      const where = (await hostOf(lab)) ?? first;
      if (where === undefined) throw new Error('the lab has no host');
      const { items } = await client.call(listSettings, { query: {} }, { signal });
      const listen = items.find(({ name }) => name === 'console.listen');
      // Where somebody wants displays as they are found, they would be on loopback alone.
      const vncListen = listen?.value === 'keep' ? '0.0.0.0' : '';
      if ((await hostOf(lab)) === undefined) await startVm(where, { name: VM, vncListen });
      conclude(`on ${where.name}, with a VNC display`);
      return where;
    },
    signal,
  );
}

/** The host that the VM runs on. */
async function hostOf(lab: Lab): Promise<Host | undefined> {
  for (const host of lab.hosts) if ((await runningVms(host)).includes(VM)) return host;
  return undefined;
}

/**
 * Looks at the VM's display as a viewer does: VeNCrypt, TLS verified against the authority, and the certificate the
 * one that the manager had issued for this host. Returns its URI. Throws `start.unproven`.
 */
export function proveDisplay(
  client: ManagerClient,
  lab: Lab,
  host: Host,
  steps: Steps,
  signal: AbortSignal,
): Promise<string> {
  return steps.run(
    `Open its display on ${host.name} over TLS`,
    async ({ conclude }) => {
      const { bundle } = await client.call(getAuthority, { params: { name: 'console' } }, { signal });
      await writeFile(consoleAuthorityFile(lab.name), bundle);
      const seen = await client.call(collectHost, { params: { name: host.name } }, { signal });
      const display = seen.inventory?.runningVms.find((vm) => vm.name === VM)?.vnc[0];
      const expected = seen.observed?.credentials.find((one) => one.service === 'vnc')?.pin;
      if (display === undefined || expected == null) throw unproven('no display or certificate is reported');
      const endpoint = seen.endpoints.find(({ service }) => service === 'vnc');
      const uri = `vnc://${endpoint?.names.addresses[0] ?? host.address}:${display.port}`;
      const served = await probe(uri, consoleAuthorityFile(lab.name), signal);
      if (served.servedCertificate.pin !== expected)
        throw unproven(`${uri} serves ${served.servedCertificate.pin}, not ${expected}`);
      conclude(`${uri}: ${served.protocol}, ${served.subtype}, certificate of ${host.name}`);
      return uri;
    },
    signal,
  );
}

interface Probed {
  readonly protocol: string;
  readonly subtype: string;
  readonly servedCertificate: { readonly pin: string };
}

async function probe(uri: string, ca: string, signal: AbortSignal): Promise<Probed> {
  const cli = join(import.meta.dirname, '../../../packages/cli/src/main.ts');
  const argv = [process.execPath, cli, 'probe', uri, '--ca', ca, '--json'];
  const { code, stdout, stderr } = await exec(argv, { timeout: 180_000, signal });
  if (code !== 0) throw unproven(stderr.trim().replace(/^error: /, ''));
  return JSON.parse(stdout) as Probed;
}

function unproven(reason: string): TrustError {
  return new TrustError('start.unproven', 'failed', `cannot show that VNC of VM ${VM} is secured: ${reason}`);
}

/** Migrates the VM live to the other host, and throws `start.unproven` unless TLS was seen to carry it. */
export async function migrateDemoVm(
  client: ManagerClient,
  lab: Lab,
  from: Host,
  steps: Steps,
  signal: AbortSignal,
): Promise<Host> {
  const to = lab.hosts.find((host) => host !== from);
  if (to === undefined) throw new Error('the lab has no second host');
  const order = { vm: VM, from: from.name, to: to.name };
  const job = await client.call(createMigrationJob, { body: order }, { signal });
  const { migration } = await showJob(client, job, steps, signal);
  const there = (await hostOf(lab))?.name;
  if (there !== to.name) throw unprovenMigration(`it is on ${there ?? 'no host'}`);
  if (!migration?.proof?.tlsCreds) throw unprovenMigration('QEMU was not seen to use TLS');
  return to;
}

function unprovenMigration(reason: string): TrustError {
  return new TrustError(
    'start.unproven',
    'failed',
    `cannot show that ${VM} was migrated over TLS: ${reason}`,
  );
}
