import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { RunHostCommand } from '@virt-trust/check/host/host-command.ts';
import fc from 'fast-check';
import { cutSessions, listSessions, parseClientInfo, parseClientList, sessionsOf } from './sessions.ts';

/** As virt-admin of libvirt 9.0 prints it. */
const LIST = ` Id   Transport   Connected since
--------------------------------------------
 4    unix        2026-11-22 07:34:40+0000
 8    tls         2026-11-22 07:34:50+0000
 9    tls         2026-11-22 07:34:50+0000
 10   tcp         2026-11-22 07:34:51+0000

`;
const INFO = `
id             : 9
connection_time: 2026-11-22 07:34:50+0000
transport      : tls
readonly       : no
sock_addr      : [::ffff:10.213.8.12]:53324
tls_x509_dname : O=Org,CN=host: b


id             : 11
connection_time: 2026-11-22 07:34:50+0000
transport      : tls
readonly       : no
sock_addr      : [fd8a:5c31:0:0::b]:53326
tls_x509_dname : O=Org,CN=c

`;

test('sessions over TLS are told, with subject and address in one form, and no local ones', async () => {
  const asked: (readonly string[])[] = [];
  const run: RunHostCommand = async (_program, args) => {
    asked.push(args);
    return { code: 1, stdout: args[2]?.startsWith('client-list') ? LIST : INFO, stderr: '' };
  };
  const sessions = await listSessions(run, 'libvirtd');
  assert.deepEqual(sessions, [
    { id: '8', address: undefined, subject: undefined },
    { id: '9', address: '10.213.8.12', subject: 'O=Org,CN=host: b' },
  ]);
  assert.deepEqual(asked[1], ['-c', 'libvirtd:///system', 'client-info libvirtd 8; client-info libvirtd 9']);
  await cutSessions(run, 'virtproxyd', sessions);
  assert.equal(asked[2]?.[2], 'client-disconnect virtproxyd 8; client-disconnect virtproxyd 9');
  assert.equal(parseClientInfo(INFO)[1]?.address, 'fd8a:5c31::b');
});

test('a daemon with very many clients is asked a part at a time', async () => {
  const many = Array.from({ length: 200 }, (_, at) => ` ${at + 1}    tls   2026-11-22 07:34:50+0000`).join(
    '\n',
  );
  let asked = 0;
  const run: RunHostCommand = async (_program, args) => {
    asked++;
    assert.ok((args[2] ?? '').length < 4096);
    return { code: 0, stdout: args[2]?.startsWith('client-list') ? many : '', stderr: '' };
  };
  assert.equal((await listSessions(run, 'libvirtd')).length, 200);
  assert.equal(asked, 5);
});

test('the sessions of a revoked party are found by subject and by address, and no others', () => {
  const sessions = [
    { id: '1', subject: 'O=Org,CN=a', address: '192.0.2.1' },
    { id: '2', subject: 'O=Org,CN=b', address: '192.0.2.2' },
    { id: '3', subject: 'O=Org,CN=c', address: '2001:db8::1' },
    { id: '4', subject: undefined, address: undefined },
  ];
  const ids = (subjects: string[], addresses: string[]) =>
    sessionsOf(sessions, [{ subjects, addresses }]).map(({ id }) => id);
  assert.deepEqual(ids(['O=Org,CN=a'], []), ['1']);
  assert.deepEqual(ids(['O=Org,CN=A', 'CN=a', 'O=Org'], []), []);
  assert.deepEqual(ids([], ['192.0.2.2', '2001:DB8:0::1', 'nonsense']), ['2', '3']);
  assert.deepEqual(ids([], []), []);
});

test('no output of virt-admin makes the reader fall over, or a client pass for another', () => {
  fc.assert(
    fc.property(fc.string(), (text) => {
      parseClientList(text);
      parseClientInfo(text);
    }),
  );
  fc.assert(
    fc.property(fc.string(), (name) => {
      const subject = name.replace(/[\p{Cc}\u2028\u2029]/gu, ' ');
      const [session] = parseClientInfo(INFO.replace('O=Org,CN=host: b', () => subject));
      assert.equal(session?.id, '9');
      assert.equal(session?.subject, subject);
    }),
  );
});
