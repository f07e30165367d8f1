import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { RunHostCommand } from '@virt-trust/check/host/host-command.ts';
import { letClientsIn, reloadLibvirt } from './libvirt-reload.ts';

/** A daemon as virt-admin shows it: its limit of clients, and TLS clients of which some are still shaking hands. */
class FakeDaemon {
  clients = 5000;
  unauthenticated = 20;
  /** The subject of each TLS client, undefined while its handshake is under way. */
  readonly sessions = new Map<string, string | undefined>();
  readonly done: string[] = [];
  onLook: () => void = () => {};
  verifies = true;
  dies = false;
  tells = true;

  readonly run: RunHostCommand = async (program, args) => {
    if (program === 'grep') return { code: this.verifies ? 1 : 0, stdout: '', stderr: '' };
    assert.equal(program, 'virt-admin');
    return { code: 0, stdout: this.#answer(args.slice(2)), stderr: '' };
  };

  #answer(words: readonly string[]): string {
    const line = words.join(' ');
    if (line === 'server-clients-info libvirtd')
      return this.tells
        ? `nclients_max        : ${this.clients}\nnclients            : 1\nnclients_unauth_max : ${this.unauthenticated}\n`
        : '';
    if (line.startsWith('server-clients-set')) {
      [this.clients, this.unauthenticated] = [Number(words[3]), Number(words[5])];
      this.done.push(this.clients === 0 ? 'hold' : `let go ${this.clients} ${this.unauthenticated}`);
    } else if (line === 'client-list libvirtd') {
      this.onLook();
      return [...this.sessions.keys()].map((id) => ` ${id}    tls   2026-11-22 07:34:50+0000`).join('\n');
    } else if (line.startsWith('client-info'))
      return [...this.sessions]
        .map(
          ([id, subject]) => `id : ${id}\ntransport : tls\n${subject ? `tls_x509_dname : ${subject}\n` : ''}`,
        )
        .join('\n');
    else if (line.startsWith('client-disconnect')) {
      const id = words.join(' ').split(' ')[2] ?? '';
      this.sessions.delete(id);
      this.done.push(`cut ${id}`);
    } else if (line === 'server-update-tls libvirtd') {
      assert.ok(![...this.sessions.values()].includes(undefined) || !this.verifies || !this.tells);
      this.done.push('update');
      if (this.dies) throw new Error('End of file while reading data');
    }
    return '';
  }
}

test('Nobody is let in while certificates are read again, and the limits are as before then.', async () => {
  const daemon = new FakeDaemon();
  daemon.sessions.set('4', 'O=Org,CN=a');
  await reloadLibvirt(daemon.run, 'libvirtd');
  assert.deepEqual(daemon.done, ['hold', 'update', 'let go 5000 20']);
});

test('Handshakes under way come to their end first; one that never ends is cut, and no established session is.', async () => {
  const daemon = new FakeDaemon();
  daemon.sessions.set('4', 'O=Org,CN=a').set('5', undefined).set('6', undefined);
  let looks = 0;
  daemon.onLook = () => {
    looks += 1;
    if (looks === 3) daemon.sessions.set('5', 'O=Org,CN=b');
  };
  await reloadLibvirt(daemon.run, 'libvirtd', async () => {});
  assert.deepEqual(daemon.done, ['hold', 'cut 6', 'update', 'let go 5000 20']);
  assert.deepEqual([...daemon.sessions.keys()], ['4', '5']);
});

test('Where the daemon refuses or dies, the limits are put back and the error is told.', async () => {
  const daemon = new FakeDaemon();
  daemon.dies = true;
  await assert.rejects(reloadLibvirt(daemon.run, 'libvirtd'), /End of file/);
  assert.deepEqual(daemon.done, ['hold', 'update', 'let go 5000 20']);
});

test('A daemon that a killed reload left holding lets clients in again after the next one.', async () => {
  const daemon = new FakeDaemon();
  [daemon.clients, daemon.unauthenticated] = [0, 0];
  await reloadLibvirt(daemon.run, 'libvirtd');
  assert.deepEqual(daemon.done.at(-1), 'let go 5000 20');
});

test('Clients without certificates are not taken for ones in a handshake where the daemon asks for none.', async () => {
  const daemon = new FakeDaemon();
  daemon.verifies = false;
  daemon.sessions.set('4', undefined);
  await reloadLibvirt(daemon.run, 'libvirtd');
  assert.deepEqual(daemon.done, ['hold', 'update', 'let go 5000 20']);
});

test('A daemon that tells no limits is reloaded without.', async () => {
  const daemon = new FakeDaemon();
  daemon.tells = false;
  await reloadLibvirt(daemon.run, 'libvirtd');
  assert.deepEqual(daemon.done, ['update']);
});

test('Two reloads at once leave the limits of the host, and not those that one of them has set.', async () => {
  const daemon = new FakeDaemon();
  daemon.clients = 77;
  await Promise.all([reloadLibvirt(daemon.run, 'libvirtd'), reloadLibvirt(daemon.run, 'libvirtd')]);
  assert.deepEqual(daemon.done, ['hold', 'update', 'let go 77 20', 'hold', 'update', 'let go 77 20']);
});

test('A daemon that a killed reload left closed is opened, and one that is open is left alone.', async () => {
  const daemon = new FakeDaemon();
  assert.equal(await letClientsIn(daemon.run, 'libvirtd'), false);
  assert.deepEqual(daemon.done, []);
  daemon.clients = 0;
  daemon.unauthenticated = 0;
  assert.equal(await letClientsIn(daemon.run, 'libvirtd'), true);
  assert.deepEqual(daemon.done, ['let go 5000 20']);
  daemon.tells = false;
  assert.equal(await letClientsIn(daemon.run, 'libvirtd'), false);
});

test('What a reload itself holds is not let go by another.', async () => {
  const daemon = new FakeDaemon();
  const reloaded = reloadLibvirt(daemon.run, 'libvirtd');
  assert.equal(await letClientsIn(daemon.run, 'libvirtd'), false);
  await reloaded;
  assert.deepEqual(daemon.done, ['hold', 'update', 'let go 5000 20']);
});
