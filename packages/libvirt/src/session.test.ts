import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isTrustError } from '@virt-trust/base/error.ts';
import { parseInstant } from '@virt-trust/base/instant.ts';
import fc from 'fast-check';
import { readGnutlsCertificate } from './gnutls/certificate.ts';
import { verifyAsGnutls } from './gnutls/verify.ts';
import { matchesHostName } from './host-name.ts';
import { formatDistinguishedName, verifyPeer } from './session.ts';
import { makeTestCertificate, type TestIdentity } from './test-certificates.ts';

const at = parseInstant('2026-06-01T00:00:00Z');
const libvirt = { program: 'libvirt', version: '9.0.0' } as const;
const root = await makeTestCertificate({ subject: 'CN=root', ca: true });
const issuing = await makeTestCertificate({ subject: 'CN=issuing', issuer: root, ca: true, pathLength: 0 });
const leaf = await makeTestCertificate({ subject: 'C=UK,O=x,CN=h', issuer: issuing });

function codeOf(act: () => unknown): string {
  try {
    act();
    return 'accepted';
  } catch (error) {
    return isTrustError(error) ? error.code : assert.fail(String(error));
  }
}

const gnutls = ({ certificate }: TestIdentity) => readGnutlsCertificate(certificate.der);

function chain(
  end: TestIdentity,
  presented: readonly TestIdentity[],
  trusted: readonly TestIdentity[],
  when = at,
): string {
  return codeOf(() =>
    verifyAsGnutls({
      chain: [end, ...presented].map(gnutls),
      trusted: trusted.map(gnutls),
      at: when,
      handshake: true,
    }),
  );
}

async function named(
  subject: string,
  ...names: [kind: 'dns' | 'ip' | 'email', value: string][]
): Promise<TestIdentity> {
  return makeTestCertificate({
    subject,
    issuer: root,
    ...(names.length === 0 ? {} : { names: names.map(([kind, value]) => ({ kind, value })) }),
  });
}

test('RFC 5280 §6.1: a chain goes from the leaf over what was presented to any trusted authority', () => {
  assert.equal(chain(leaf, [issuing], [root]), 'accepted');
  assert.equal(chain(leaf, [root, issuing], [root]), 'accepted');
  assert.equal(chain(leaf, [], [issuing]), 'accepted');
  assert.equal(chain(leaf, [], [root]), 'chain.issuer_unknown');
  assert.equal(chain(leaf, [issuing], []), 'chain.issuer_unknown');
});

test('RFC 5280 §6.1.3: times hold for leaf, intermediate and anchor, to the second', async () => {
  const brief = await makeTestCertificate({
    subject: 'CN=brief',
    ca: true,
    notAfter: '2026-03-01T00:00:00Z',
  });
  const below = await makeTestCertificate({ subject: 'CN=h', issuer: brief });
  assert.equal(chain(below, [], [brief], parseInstant('2026-03-01T00:00:00Z')), 'accepted');
  assert.equal(chain(below, [], [brief], parseInstant('2026-03-01T00:00:01Z')), 'chain.expired');
  assert.equal(chain(leaf, [issuing], [root], parseInstant('2025-12-31T23:59:59Z')), 'chain.not_yet_valid');
  assert.equal(chain(leaf, [issuing], [root], parseInstant('2036-01-01T00:00:01Z')), 'chain.expired');
});

test('RFC 5280 §6.1.4: who is no authority, may not sign, or stands too high, is refused', async () => {
  const plain = await makeTestCertificate({ subject: 'CN=plain', issuer: root, ca: false });
  const below = await makeTestCertificate({ subject: 'CN=h', issuer: plain });
  assert.equal(chain(below, [plain], [root]), 'chain.issuer_not_authority');
  const keyUsage = { usages: ['cRLSign'], critical: false } as const;
  const mute = await makeTestCertificate({ subject: 'CN=mute', ca: true, keyUsage });
  assert.equal(
    chain(await makeTestCertificate({ subject: 'CN=h', issuer: mute }), [], [mute]),
    'chain.issuer_not_authority',
  );
  const third = await makeTestCertificate({ subject: 'CN=third', issuer: issuing, ca: true });
  const deep = await makeTestCertificate({ subject: 'CN=h', issuer: third });
  assert.equal(chain(deep, [third, issuing], [root]), 'chain.path_too_long');
});

test('RFC 5280 §6.1.3: of authorities of one name GnuTLS tries the last that is valid, and no other', async () => {
  const impostor = await makeTestCertificate({ subject: 'CN=issuing', ca: true });
  const over = { subject: 'CN=issuing', ca: true, notAfter: '2026-02-01T00:00:00Z' };
  const old = await makeTestCertificate(over);
  assert.equal(chain(leaf, [], [impostor]), 'chain.signature_wrong');
  assert.equal(chain(leaf, [], [impostor, issuing]), 'accepted');
  assert.equal(chain(leaf, [], [issuing, impostor]), 'chain.signature_wrong');
  assert.equal(chain(leaf, [], [issuing, old]), 'accepted');
});

test('RFC 5280 §4.2: a critical extension that nobody knows refuses leaf and authority', async () => {
  const unknownCritical = ['1.3.6.1.4.1.99999.1'];
  const odd = await makeTestCertificate({ subject: 'CN=h', issuer: root, unknownCritical });
  assert.equal(chain(odd, [], [root]), 'chain.extension_unknown');
  const authority = await makeTestCertificate({ subject: 'CN=odd', ca: true, unknownCritical });
  const below = await makeTestCertificate({ subject: 'CN=h', issuer: authority });
  assert.equal(chain(below, [], [authority]), 'chain.extension_unknown');
});

test('a heap of authorities of one name ends in a refusal, not in endless work', async () => {
  const heap = await Promise.all(
    Array.from({ length: 70 }, () => makeTestCertificate({ subject: 'CN=issuing', ca: true })),
  );
  assert.match(chain(leaf, heap, [root]), /^chain\./);
});

test('RFC 9525 §6.4: an address is looked for among the iPAddress names alone', async () => {
  const { certificate } = await named(
    'CN=192.0.2.7',
    ['ip', '192.0.2.1'],
    ['ip', '2001:db8::1'],
    ['dns', '192.0.2.9'],
  );
  for (const host of ['192.0.2.1', '2001:db8::1', '2001:DB8:0:0:0:0:0:1'])
    assert.ok(matchesHostName(certificate, host));
  for (const host of ['192.0.2.7', '192.0.2.9', '2001:db8::2'])
    assert.ok(!matchesHostName(certificate, host));
  const bare = await named('CN=192.0.2.7');
  assert.ok(!matchesHostName(bare.certificate, '192.0.2.7'));
});

test('RFC 6125 §6.4.4: the CN counts only where there is no alternative name of a host, and only alone', async () => {
  const bare = await named('CN=a.example');
  assert.ok(matchesHostName(bare.certificate, 'A.EXAMPLE'));
  assert.ok(!matchesHostName(bare.certificate, 'b.example'));
  for (const other of [
    ['dns', 'b.example'],
    ['ip', '192.0.2.1'],
  ] as const) {
    const certificate = (await named('CN=a.example', [other[0], other[1]])).certificate;
    assert.ok(!matchesHostName(certificate, 'a.example'));
  }
  const mail = await named('CN=a.example', ['email', 'a@b.example']);
  assert.ok(matchesHostName(mail.certificate, 'a.example'));
  const two = await named('CN=a.example,CN=b.example');
  assert.ok(!matchesHostName(two.certificate, 'a.example'));
});

test('RFC 9525 §6.3: a wildcard stands at the front for a part of one label, as GnuTLS has it, and two labels follow', async () => {
  const { certificate } = await named(
    'CN=x',
    ['dns', '*.cluster.example'],
    ['dns', '*.org'],
    ['dns', 'h*.a.example'],
    ['dns', '*'],
  );
  assert.ok(matchesHostName(certificate, 'Host1.cluster.example'));
  const part = (await named('CN=x', ['dns', '*a.cluster.example'])).certificate;
  for (const host of ['a.cluster.example', 'xa.cluster.example'])
    assert.ok(matchesHostName(part, host), host);
  assert.ok(!matchesHostName(part, 'b.a.cluster.example'));
  for (const host of ['cluster.example', 'a.b.cluster.example', 'x.org', 'h1.a.example', 'x']) {
    assert.ok(!matchesHostName(certificate, host), host);
  }
});

test('the distinguished name is in the order of the certificate, as virt-pki-query-dn prints it', () => {
  assert.equal(formatDistinguishedName(leaf.certificate), 'C=UK,O=x,CN=h');
});

test('tls_allowed_dn_list holds globs over the whole name, and an empty list denies all', () => {
  const judge = (...allowedDistinguishedNames: string[]) =>
    codeOf(() =>
      verifyPeer({
        role: 'client',
        presented: [leaf.certificate],
        trusted: [issuing.certificate],
        at,
        checker: libvirt,
        allowedDistinguishedNames,
      }),
    );
  for (const glob of ['C=UK,O=x,CN=h', 'C=UK,*', '*CN=?', '*', 'C=??,O=*,CN=h*'])
    assert.equal(judge(glob), 'accepted', glob);
  for (const glob of ['C=UK', 'O=x,CN=h', '*CN=', 'c=uk,*', '?', ''])
    assert.equal(judge(glob), 'peer.dn_not_allowed', glob);
  assert.equal(judge(), 'peer.dn_not_allowed');
  assert.equal(judge('nobody', '*CN=h'), 'accepted');
});

test('globs match as their translation to a regular expression does', () => {
  const piece = fc.constantFrom('a', 'b', '*', '?', '=');
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 8 }), (parts) => {
      const pattern = parts.join('').replaceAll('*', '.*').replaceAll('?', '.');
      const expected = new RegExp(`^${pattern}$`, 's').test('C=UK,O=x,CN=h');
      const got = codeOf(() =>
        verifyPeer({
          role: 'client',
          presented: [leaf.certificate],
          trusted: [issuing.certificate],
          at,
          checker: libvirt,
          allowedDistinguishedNames: [parts.join('')],
        }),
      );
      assert.equal(got === 'accepted', expected);
    }),
  );
});

test('libvirt looks at the use of a peer’s certificate, QEMU leaves that to the peer itself', async () => {
  const purposes = { oids: ['1.3.6.1.5.5.7.3.2'], critical: true };
  const names = [{ kind: 'dns', value: 'h' }] as const;
  const client = await makeTestCertificate({ subject: 'CN=h', issuer: root, purposes, names });
  const judge = (checker: Parameters<typeof verifyPeer>[0]['checker']) =>
    codeOf(() =>
      verifyPeer({
        role: 'server',
        presented: [client.certificate],
        trusted: [root.certificate],
        at,
        checker,
        hostName: 'h',
      }),
    );
  assert.equal(judge(libvirt), 'peer.purpose');
  assert.equal(judge({ program: 'qemu', version: '7.2.22' }), 'accepted');
});

test('a peer without certificate, with a wrong name or with an expired certificate beside its chain is refused', async () => {
  const judge = (presented: readonly TestIdentity[], hostName: string) =>
    codeOf(() =>
      verifyPeer({
        role: 'server',
        presented: presented.map(({ certificate }) => certificate),
        trusted: [issuing.certificate],
        at,
        checker: libvirt,
        hostName,
      }),
    );
  const old = await makeTestCertificate({ subject: 'CN=old', ca: true, notAfter: '2026-02-01T00:00:00Z' });
  assert.equal(judge([], 'h'), 'peer.certificate_missing');
  assert.equal(judge([leaf], 'h'), 'accepted');
  assert.equal(judge([leaf], 'other'), 'peer.name_mismatch');
  assert.equal(judge([leaf, old], 'h'), 'peer.expired');
});

test('RFC 5246 §7.4.7.1: who signs in a handshake needs digitalSignature, critical or not; an RSA server with keyEncipherment need not sign', async () => {
  for (const [role, key, usages, expected] of [
    ['server', 'rsa', ['keyEncipherment'], 'accepted'],
    ['server', 'rsa', ['dataEncipherment'], 'peer.key_usage'],
    ['server', 'ec', ['keyEncipherment'], 'peer.key_usage'],
    ['client', 'rsa', ['keyEncipherment'], 'peer.key_usage'],
  ] as const) {
    const keyUsage = { usages, critical: false };
    const made = await makeTestCertificate({ subject: 'CN=h', issuer: issuing, key, keyUsage });
    const parts = { role, presented: [made.certificate], trusted: [issuing.certificate, root.certificate] };
    const judged = codeOf(() => verifyPeer({ ...parts, at, checker: { program: 'qemu', version: '7.2.0' } }));
    assert.equal(judged, expected, `${role} ${key}`);
  }
});
