import assert from 'node:assert/strict';
import { test } from 'node:test';
import { silentLog } from '@virt-trust/base/log.ts';
import { KVM1, requestPem } from '../../issuance/fixtures.ts';
import { composeIssuance } from '../../issuance-domain.ts';
import { startManager } from '../../manager.ts';
import { temporaryDirectory } from '../../store/fixtures.ts';

test('A certificate is issued, listed, shown and refused over HTTP, and the authorities are shown with what they permit.', async (t) => {
  const manager = await startManager(
    {
      stateDirectory: temporaryDirectory(t),
      version: 'test',
      listen: { address: '127.0.0.1', port: 0 },
      log: silentLog,
    },
    [
      (core) =>
        composeIssuance(core, {
          declaredNames: { find: async (name) => (name === 'kvm1' ? KVM1 : null) },
          managerNames: () => ({ dns: [], addresses: [] }),
          constraints: { dns: ['example'], subnets: ['10.0.0.0/9', 'fd00::/8'] },
        }),
    ],
  );
  t.after(() => manager.close());
  const ask = async (path: string, body?: object) => {
    const answer = await fetch(`${manager.url}/api/v1/${path}`, {
      method: body === undefined ? 'GET' : 'POST',
      headers: { authorization: `Bearer ${manager.initialToken}`, 'content-type': 'application/json' },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    return { status: answer.status, body: (await answer.json()) as Record<string, unknown> };
  };
  const order = { host: 'kvm1', service: 'libvirt' };
  const issued = await ask('certificates', { ...order, csr: await requestPem() });
  assert.equal(issued.status, 201);
  const shown = await ask(`certificates/${issued.body['serialNumber']}`);
  assert.deepEqual(
    [shown.status, shown.body['state'], shown.body['pem']],
    [200, 'issued', issued.body['pem']],
  );
  await ask('certificates', { ...order, service: 'migration', csr: await requestPem() });
  const page = await ask('certificates?host=kvm1&limit=1');
  const [newest] = page.body['items'] as { service: string }[];
  assert.equal(newest?.service, 'migration');
  const rest = await ask(`certificates?host=kvm1&limit=1&cursor=${page.body['next']}`);
  assert.deepEqual([(rest.body['items'] as unknown[]).length, rest.body['next']], [1, null]);
  const refused = await ask('certificates', { ...order, csr: await requestPem({ names: ['10.0.0.9'] }) });
  assert.deepEqual([refused.status, refused.body['code']], [403, 'issuance.name_not_declared']);
  assert.equal((await ask(`certificates/${'ab'.repeat(17)}`)).status, 404);
  const { body } = await ask('authorities/console');
  assert.deepEqual(body['constraints'], { dns: ['example'], subnets: ['10.0.0.0/9', 'fd00::/8'] });
  assert.equal(((await ask('authorities')).body['items'] as unknown[]).length, 4);
});
