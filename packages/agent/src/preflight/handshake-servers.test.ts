import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { type TestContext, test } from 'node:test';
import { silentLog } from '@virt-trust/base/log.ts';
import { madeUpPin } from '@virt-trust/channel/fixtures.ts';
import { Firewall } from '../firewall/firewall.ts';
import { temporaryRoot } from '../fixtures.ts';
import { grantFor, noHostCommands } from '../grants/fixtures.ts';
import { makeStateDirectories } from '../state/directories.ts';
import { agentPaths } from '../state/paths.ts';
import { HandshakeServers } from './handshake-servers.ts';
import { type ShortServer, serveBare } from './qemu-server.ts';

const GRANT = grantFor(madeUpPin('peer'), { mode: 'pinned' });

/** Servers of a host that answers nothing before `answer` was called. */
async function slowHost(t: TestContext) {
  const paths = agentPaths(await temporaryRoot(t));
  await makeStateDirectories(paths);
  const asked = Promise.withResolvers<void>();
  const answers = Promise.withResolvers<void>();
  const servers = new HandshakeServers({
    context: {
      paths,
      firewall: new Firewall(paths, noHostCommands),
      log: silentLog,
      run: async () => {
        asked.resolve();
        await answers.promise;
        return { code: 0, stdout: '', stderr: '' };
      },
    },
    places: () => Promise.reject(new Error('not in this mode')),
    qemuUser: () => Promise.reject(new Error('not in this mode')),
  });
  t.after(() => servers.close());
  return { servers, asked: asked.promise, answer: () => answers.resolve() };
}

async function isReached(port: number): Promise<boolean> {
  const socket = connect({ host: '127.0.0.1', port });
  return await once(socket, 'connect')
    .then(
      () => true,
      () => false,
    )
    .finally(() => socket.destroy());
}

test('a server that a busy host was long in starting listens for all of its time, and no longer', async (t) => {
  const host = await slowHost(t);
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const served = host.servers.serve(GRANT, '127.0.0.1');
  await host.asked;
  t.mock.timers.tick(60_000);
  host.answer();
  const { port, validSeconds } = await served;
  t.mock.timers.tick(validSeconds * 1000 - 1);
  assert.equal(await isReached(port), true);
  t.mock.timers.tick(1);
  await host.servers.close();
  assert.equal(await isReached(port), false);
});

test('a server whose grant goes while it starts does not stay', async (t) => {
  const host = await slowHost(t);
  const served = host.servers.serve(GRANT, '127.0.0.1');
  await host.asked;
  const released = host.servers.release(GRANT.id);
  host.answer();
  const { port } = await served;
  await released;
  assert.equal(await isReached(port), false);
});

test('a port that somebody else takes in between is not the last that is tried', async (t) => {
  // Nobody listens, as the kernel said a moment before: of those few ports the same is chosen again and again.
  const ports = { min: 16_580, max: 16_583 };
  const run = async () => ({ code: 0, stdout: '', stderr: '' });
  const servers: ShortServer[] = [];
  for (let count = 0; count < 4; count++)
    servers.push(await serveBare({ address: '127.0.0.97', ports }, { run }));
  t.after(() => Promise.all(servers.map((server) => server[Symbol.asyncDispose]())));
  assert.equal(new Set(servers.map(({ port }) => port)).size, 4);
  await assert.rejects(serveBare({ address: '127.0.0.97', ports }, { run }), { code: 'EADDRINUSE' });
});
