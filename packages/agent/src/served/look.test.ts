import assert from 'node:assert/strict';
import type { AddressInfo } from 'node:net';
import { type TestContext, test } from 'node:test';
import { createServer } from 'node:tls';
import { systemClock } from '@virt-trust/base/clock.ts';
import { encodePrivateKeyPem, generatePrivateKey, spkiOfKey } from '@virt-trust/pki/key.ts';
import { issue, makeAuthority } from '../apply/fixtures.ts';
import { lookAtEndpoints } from './look.ts';

/** A TLS server on all addresses, as SPICE of a VM is. */
async function serve(t: TestContext, host: string): Promise<number> {
  const key = await generatePrivateKey('ecdsa-p256-sha256');
  const cert = issue(await makeAuthority('Ours'), { spki: spkiOfKey(key) });
  const server = createServer({ key: encodePrivateKeyPem(key), cert });
  const { promise, resolve } = Promise.withResolvers<void>();
  server.listen(0, host, resolve);
  await promise;
  t.after(() => server.close());
  return (server.address() as AddressInfo).port;
}

function look(vms: Parameters<typeof lookAtEndpoints>[0]['vms'], own: readonly string[]) {
  return lookAtEndpoints({
    services: ['spice'],
    addresses: { spice: ['127.0.0.2', '127.0.0.3', '203.0.113.9'] },
    consoleBundle: '',
    tlsPort: 16514,
    vms,
    isOwn: (address) => own.includes(address),
    clock: systemClock,
  });
}

test('a display on a wildcard is seen at each endpoint address that is the host’s own', async (t) => {
  const port = await serve(t, '0.0.0.0');
  const display = { listen: '0.0.0.0', port: null, tlsPort: port, tlsDirectory: '/x' };
  const seen = await look(
    [{ uuid: '1', name: 'guest', vnc: [], spice: [display] }],
    ['127.0.0.2', '127.0.0.3'],
  );
  assert.deepEqual(
    seen.map(({ target, seen: { kind } }) => [target, kind]),
    [
      [`VM guest 127.0.0.2:${port}`, 'key'],
      [`VM guest 127.0.0.3:${port}`, 'key'],
    ],
  );
});

test('a display on an address that left the host is not sought at whoever has it now', async (t) => {
  const port = await serve(t, '127.0.0.3');
  const display = { listen: '127.0.0.3', port: null, tlsPort: port, tlsDirectory: '/x' };
  const [seen] = await look([{ uuid: '1', name: 'guest', vnc: [], spice: [display] }], ['127.0.0.2']);
  assert.equal(seen?.seen.kind, 'nothing');
  assert.match(seen?.seen.kind === 'nothing' ? seen.seen.reason : '', /not the host's any more/);
});
