import assert from 'node:assert/strict';
import { type ChildProcess, fork } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, readdir, stat } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { Instant } from '@virt-trust/base/instant.ts';
import { silentLog } from '@virt-trust/base/log.ts';
import { systemRandomness } from '@virt-trust/base/randomness.ts';
import { identityOf } from '@virt-trust/channel/fixtures.ts';
import type { Grant } from '@virt-trust/contract/model/grant.ts';
import { migrationXmlDigest } from '@virt-trust/libvirt/migration-xml.ts';
import type { Firewall } from '../firewall/firewall.ts';
import { temporaryRoot } from '../fixtures.ts';
import { makeStateDirectories } from '../state/directories.ts';
import { IdentityStore } from '../state/identity.ts';
import type { OwnProcesses } from '../state/own-processes.ts';
import { agentPaths } from '../state/paths.ts';
import { HostArrivals } from './arrivals.ts';
import { runRelay } from './relay-process.ts';
import { migrationSockets } from './sockets.ts';
import { openStreams } from './source-streams.ts';

if (process.argv[2] === 'relay') {
  await runRelay(process.argv[3] ?? '', silentLog, process.argv[4]);
  process.exit(0);
}

const UUID = '00cc6257-5d60-4ebb-a478-444f0538f75e';
const XML = `<domain><name>web</name><uuid>${UUID}</uuid></domain>`;
const own = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
const source = identityOf('agent');

/** A destination whose relays are real processes. */
async function destination(t: TestContext) {
  const root = await temporaryRoot(t);
  const paths = agentPaths(root);
  await makeStateDirectories(paths);
  await mkdir(paths.run, { recursive: true });
  await mkdir(join(root, 'run/libvirt'), { recursive: true });
  const libvirt = createServer((socket) => socket.resume());
  libvirt.listen(join(root, 'run/libvirt/libvirt-sock'));
  await once(libvirt, 'listening');
  t.after(() => libvirt.close());
  const { store } = await IdentityStore.open(paths.identity, systemRandomness);
  const children = new Map<string, ChildProcess>();
  const runs = (child: ChildProcess | undefined): child is ChildProcess =>
    child !== undefined && child.exitCode === null && child.signalCode === null;
  const isRunning = async (id: string) => runs(children.get(id));
  const processes: OwnProcesses = {
    isRunning,
    async start(id) {
      if (!(await isRunning(id)))
        children.set(id, fork(import.meta.filename, ['relay', id, root], { execArgv: [] }));
    },
    async stop(id) {
      const child = children.get(id);
      if (!runs(child)) return;
      const exited = once(child, 'exit');
      child.kill('SIGTERM');
      await exited;
    },
  };
  t.after(() => Promise.all([...children.keys()].map((id) => processes.stop(id))));
  const events: string[] = [];
  const open = new Map<string, unknown>();
  const firewall = {
    open: async (opening: { what: string }) => {
      open.set(opening.what, opening);
      return true;
    },
    close: async (what: string) => open.delete(what),
    opened: async () => [...open.keys()],
  } as unknown as Firewall;
  const grants = new Map<string, Grant>();
  const arrivals = () =>
    new HostArrivals({
      context: {
        paths,
        firewall,
        log: silentLog,
        record: async (kind) => {
          events.push(kind);
        },
      },
      processes,
      qemuUser: async () => own,
      findGrant: (id) => grants.get(id),
      startMs: 60_000,
      lookMs: 20,
    });
  const grant = (change: Partial<Grant> = {}): Grant => {
    const made: Grant = {
      id: randomUUID(),
      role: 'destination',
      mode: 'pinned',
      operations: ['create', 'status', 'rpc', 'stream'],
      peer: {
        name: 'a',
        pins: [source.pin],
        addresses: ['127.0.0.1'],
        reachedAt: ['127.0.0.1'],
        port: 16518,
      },
      vm: {
        name: 'web',
        uuid: UUID,
        xmlSha256: migrationXmlDigest(XML),
        persistentXmlSha256: null,
        copiedDisks: [],
      },
      flags: 1,
      streams: 1,
      notAfter: (Date.now() + 600_000) as Instant,
      ...change,
    };
    grants.set(made.id, made);
    return made;
  };
  return { root, paths, pin: store.current.pin, processes, events, open, grants, grant, arrivals };
}

const VM = { xml: XML, persistentXml: null };

test('a source whose VM is not the grant’s is refused, and it is told', async (t) => {
  const { arrivals, grant, events } = await destination(t);
  const host = arrivals();
  const other = { xml: XML.replace('web', 'db'), persistentXml: null };
  await assert.rejects(host.create(grant(), other), { code: 'migration.other_xml' });
  await assert.rejects(host.create(grant(), { ...VM, persistentXml: XML }), { code: 'migration.other_xml' });
  await assert.rejects(host.create(grant({ mode: 'tls' }), other), { code: 'migration.other_xml' });
  assert.deepEqual(events, Array(3).fill('migration.cut_off'));
  await assert.rejects(host.create(grant({ role: 'source' }), VM), { code: 'migration.no_arrival' });
});

test('a source that had a definition granted which commands its destination, or is another VM’s, gets no relay', async (t) => {
  const { arrivals, grant, events, open } = await destination(t);
  const host = arrivals();
  const lies = [
    XML.replace('</domain>', "<seclabel type='static' model='dac'><label>+0:+0</label></seclabel></domain>"),
    XML.replace('<name>web', '<name>db'),
    XML.replace(UUID, UUID.replace('00cc', '11cc')),
    XML.replace('</domain>', '<name>db</name></domain>'),
    XML.replace('<uuid>', '<uuid><![CDATA[]]>'),
  ];
  for (const xml of lies) {
    const { vm } = grant();
    assert.ok(vm !== null);
    const digest = migrationXmlDigest(xml);
    const alone = grant({ vm: { ...vm, xmlSha256: digest } });
    await assert.rejects(host.create(alone, { xml, persistentXml: null }), {
      code: 'migration.undue_definition',
    });
    const stored = grant({ vm: { ...vm, persistentXmlSha256: digest } });
    await assert.rejects(host.create(stored, { xml: XML, persistentXml: xml }), {
      code: 'migration.undue_definition',
    });
  }
  assert.deepEqual(events, Array(2 * lies.length).fill('migration.cut_off'));
  assert.deepEqual([...open], []);
});

test('a source that keeps back the persistent definition which it had granted gets no relay', async (t) => {
  const { arrivals, grant } = await destination(t);
  const { vm } = grant();
  assert.ok(vm !== null);
  const stored = grant({ vm: { ...vm, persistentXmlSha256: migrationXmlDigest(XML) } });
  await assert.rejects(arrivals().create(stored, VM), { code: 'migration.other_xml' });
});

test('a migration in another mode gets no relay', async (t) => {
  const { arrivals, grant, open } = await destination(t);
  assert.deepEqual(await arrivals().create(grant({ mode: 'tls' }), VM), { relayPort: null });
  assert.deepEqual([...open], []);
});

test('a relay outlives the agent, is found again, and goes with its grant without a trace', async (t) => {
  const { arrivals, grant, grants, open, root, paths, processes, pin } = await destination(t);
  const granted = grant();
  const first = arrivals();
  const { relayPort } = await first.create(granted, VM);
  assert.ok(relayPort !== null);
  const what = `relay-${granted.id.replaceAll('-', '')}`;
  assert.deepEqual(open.get(what), {
    what,
    ports: [{ from: relayPort, to: relayPort }],
    from: ['127.0.0.1'],
  });
  const sockets = migrationSockets(root, granted.id, 'web');
  assert.equal((await stat(sockets.directory)).mode & 0o777, 0o700);
  assert.equal((await stat(join(paths.migrations, granted.id))).mode & 0o777, 0o700);
  await first.close();
  assert.equal(await processes.isRunning(granted.id), true);

  const second = arrivals();
  await second.start();
  assert.deepEqual(await second.create(granted, VM), { relayPort });
  const qemu = createServer((socket) => socket.pipe(socket)).listen(sockets.stream);
  t.after(() => qemu.close());
  const peer = { reachedAt: ['127.0.0.1'], port: relayPort, pins: [pin] };
  const options = { id: granted.id, vm: 'web', root: join(root, 's'), qemu: own, peer, identity: source };
  const streams = await openStreams({ ...options, disks: false, streams: 1 });
  t.after(() => streams.close());
  const stream = connect({ path: decodeURIComponent(new URL(streams.streamUri).pathname) });
  stream.write('memory');
  await once(stream, 'data');

  grants.delete(granted.id);
  const gone = once(stream, 'close');
  await second.release(granted.id);
  await gone;
  assert.equal(await processes.isRunning(granted.id), false);
  assert.deepEqual([...open], []);
  await assert.rejects(stat(sockets.directory), { code: 'ENOENT' });
  assert.deepEqual(await readdir(paths.migrations), []);
  // Again is fine.
  await second.release(granted.id);
  await second.close();
});

test('a relay whose grant is gone when the agent starts is ended', async (t) => {
  const { arrivals, grant, grants, open, processes, paths } = await destination(t);
  const granted = grant();
  const first = arrivals();
  await first.create(granted, VM);
  await first.close();
  grants.delete(granted.id);
  // Of a relay that was there before the host booted, and of somebody else.
  open.set('relay-00000000000040008000000000000000', {});
  open.set('channel', {});
  const second = arrivals();
  await second.start();
  assert.equal(await processes.isRunning(granted.id), false);
  assert.deepEqual([...open.keys()], ['channel']);
  assert.deepEqual(await readdir(paths.migrations), []);
  await second.close();
});

test('a source that was cut off is told of once, and gets no other relay by that grant', async (t) => {
  const { arrivals, grant, root, events, open, pin } = await destination(t);
  const granted = grant();
  const host = arrivals();
  const { relayPort } = await host.create(granted, VM);
  const peer = { reachedAt: ['127.0.0.1'], port: relayPort ?? 0, pins: [pin] };
  const options = { id: granted.id, vm: 'web', root: join(root, 's'), qemu: own, peer, identity: source };
  const streams = await openStreams({ ...options, disks: false, streams: 1 });
  t.after(() => streams.close());
  const rpc = await streams.rpc();
  rpc.on('error', () => {});
  rpc.resume();
  rpc.write(Buffer.alloc(64, 0x11));
  await once(rpc, 'close');
  while (!events.includes('relay.closed')) await new Promise((resolve) => setTimeout(resolve, 10));
  assert.deepEqual(events, ['relay.opened', 'migration.cut_off', 'relay.closed']);
  assert.deepEqual([...open], []);
  await assert.rejects(host.create(granted, VM), { code: 'migration.cut_off' });
  await host.release(granted.id);
  await host.close();
  assert.deepEqual(
    events.filter((kind) => kind === 'migration.cut_off'),
    ['migration.cut_off'],
  );
});
