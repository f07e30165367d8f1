import { text } from 'node:stream/consumers';
import { RpcClient } from '@virt-trust/agent/conduct/rpc-client.ts';
import { peerClient } from '@virt-trust/agent/peers/peer-client.ts';
import { dialRelay } from '@virt-trust/agent/relay/dial-relay.ts';
import { migrationSockets, unixUri } from '@virt-trust/agent/relay/sockets.ts';
import { describeError, isTrustError } from '@virt-trust/base/error.ts';
import { systemRandomness } from '@virt-trust/base/randomness.ts';
import { createChannelIdentity, loadChannelIdentity } from '@virt-trust/channel/identity.ts';
import { peerCreateMigration } from '@virt-trust/contract/agent/peer-operations.ts';
import type { Grant } from '@virt-trust/contract/model/grant.ts';
import {
  domainDestroy,
  domainLookupByName,
  domainMigratePrepare3Params,
  qemuDomainMonitorCommand,
} from '@virt-trust/libvirt/migration-protocol.ts';
import type { TypedParameter } from '@virt-trust/libvirt/typed-params.ts';

/** What somebody who has a source's key does by hand; a process of its own in that host's network. */
export interface Attack {
  readonly certificate: string;
  readonly privateKey: string;
  readonly peer: Grant['peer'];
  readonly id: string;
  readonly vm: { readonly name: string; readonly uuid: string; readonly xml: string };
  readonly kind: string;
  /** After the relay is open, the moment before which it is not dialled. */
  readonly notBefore?: number;
}

/** How far it came: with which error the peer refused, or how the connection to libvirt there ended. */
export interface AttackOutcome {
  readonly refused?: string;
  readonly relayPort?: number | null;
  readonly ended?: string;
  readonly answered?: boolean;
}

/** What is refused is refused at once, however long a busy machine takes for it. */
const DIAL_MS = 60_000;

async function attack(order: Attack): Promise<AttackOutcome> {
  const { certificate, privateKey, peer, id, vm, kind } = order;
  const own = loadChannelIdentity({ role: 'agent', certificatePem: certificate, privateKeyPem: privateKey });
  const client = peerClient({ peer }, () => own, { dialTimeoutMs: DIAL_MS });
  const xml = kind === 'changed XML at the door' ? vm.xml.replace('<vcpu', '<vcpu cpuset="0"') : vm.xml;
  let relayPort: number | null | undefined;
  const relay = () => (relayPort === undefined ? {} : { relayPort });
  try {
    const body = { xml, persistentXml: null };
    relayPort = (await client.api.call(peerCreateMigration, { params: { id }, body })).relayPort;
    const waitMs = Math.max(0, (order.notBefore ?? 0) - Date.now());
    await new Promise((resolve) => setTimeout(resolve, waitMs));
    return { ...relay(), ...(await speak(order, own, relayPort ?? 0)) };
  } catch (error) {
    return { ...relay(), refused: isTrustError(error) ? error.code : describeError(error) };
  } finally {
    client.close();
  }
}

async function speak(
  { kind, id, peer, vm }: Attack,
  own: ReturnType<typeof loadChannelIdentity<'agent'>>,
  port: number,
): Promise<AttackOutcome> {
  const identity =
    kind === "a stranger's key"
      ? await createChannelIdentity({ role: 'agent', randomness: systemRandomness })
      : own;
  const { socket } = await dialRelay({
    id,
    kind: 'rpc',
    identity,
    pins: peer.pins,
    addresses: peer.reachedAt,
    port,
    timeoutMs: DIAL_MS,
  });
  // However it ends: where the relay had more to read, with a reset.
  const closed = new Promise((resolve) => socket.once('close', resolve));
  socket.on('error', () => {});
  const stream = await dialRelay({
    id,
    kind: 'stream',
    identity,
    pins: peer.pins,
    addresses: peer.reachedAt,
    port,
    timeoutMs: DIAL_MS,
  }).catch(() => undefined);
  stream?.socket.on('error', () => {});
  const libvirt = await RpcClient.open(socket, { where: peer.name });
  const domain = { name: vm.name, uuid: vm.uuid, id: -1 };
  const string = (name: string, value: string): TypedParameter => ({ name, kind: 'string', value });
  const uri = unixUri(migrationSockets('/', id, vm.name).stream);
  const prepare = (change: { name?: string; xml?: string; uri?: string; flags?: number }) =>
    libvirt.call(domainMigratePrepare3Params, {
      params: [
        string('destination_name', change.name ?? vm.name),
        string('destination_xml', change.xml ?? vm.xml),
        string('migrate_uri', change.uri ?? uri),
      ],
      cookieIn: new Uint8Array(),
      flags: change.flags ?? 1,
    });
  const calls: Record<string, () => Promise<unknown>> = {
    'another procedure': () => libvirt.call(domainDestroy, { domain }),
    'a look at another VM': () => libvirt.call(domainLookupByName, { name: 'victim' }),
    "QEMU's monitor": () =>
      libvirt.call(qemuDomainMonitorCommand, { domain, command: '{"execute":"stop"}', flags: 0 }),
    "another VM's name": () => prepare({ name: 'victim' }),
    'changed XML': () => prepare({ xml: vm.xml.replace('<vcpu', '<vcpu cpuset="0"') }),
    'other flags': () => prepare({ flags: 1 | (1 << 9) }),
    'another socket': () => prepare({ uri: 'unix:///run/libvirt/libvirt-sock' }),
    'a TCP port': () => prepare({ uri: 'tcp://0.0.0.0:49200' }),
  };
  const answer = await calls[kind]?.().then(
    () => ({ answered: true }),
    (error: unknown) => ({ ended: isTrustError(error) ? error.code : describeError(error) }),
  );
  await closed;
  return answer ?? {};
}

if (import.meta.main) {
  const outcome = await attack(JSON.parse(await text(process.stdin)) as Attack);
  process.stdout.write(JSON.stringify(outcome));
  process.exit(0);
}
