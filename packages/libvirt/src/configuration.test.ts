import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { isTrustError, type TrustError } from '@virt-trust/base/error.ts';
import fc from 'fast-check';
import { type ConfigurationValue, parseConfiguration } from './configuration.ts';

const shipped = ['libvirtd.conf', 'qemu.conf'].map((name) => ({
  name,
  bytes: readFileSync(new URL(`../testdata/debian-12/${name}`, import.meta.url)),
}));

const key = fc.constantFrom(
  'listen_tls',
  'tls_port',
  'vnc_tls',
  'cgroup_device_acl',
  'nvram',
  'brand_new',
  'a',
);
const text = fc.string({
  unit: fc.constantFrom('a', ' ', '"', "'", '#', ';', '=', ']', 'é', '\\'),
  maxLength: 8,
});
const scalar = fc.oneof(
  fc.integer(),
  text.filter((value) => !(value.includes('"') && value.includes("'"))),
);
const value: fc.Arbitrary<ConfigurationValue> = fc.oneof(scalar, fc.array(scalar, { maxLength: 4 }));
const blank = fc.constantFrom('', ' ', '\t');
const written = fc.oneof(
  fc.integer().map(String),
  fc.constantFrom('"x"', "'y # ; z'", '"""one\ntwo"""', '[]', '[\n  "a",\n]', '[ "a",\n\t1, ]'),
);
const line = fc.oneof(
  fc.constantFrom(
    '',
    '# prose',
    '#listen_tls = 0',
    '#a = 1',
    '# a = 1',
    '#nvram = [',
    '#  "x"',
    '#]',
    '\t# a',
  ),
  fc
    .tuple(key, blank, blank, written, fc.constantFrom('', ' # note', ';', '; # note', ' ; a = 2'))
    .map(([name, left, right, form, tail]) => `${name}${left}=${right}${form}${tail}`),
);
const file = fc
  .tuple(fc.array(line, { maxLength: 8 }), fc.constantFrom('\n', '\r\n'), fc.boolean())
  .map(([lines, eol, closed]) => lines.join('\n').replaceAll('\n', eol) + (closed ? eol : ''));

function refusal(content: string): TrustError {
  try {
    parseConfiguration(content, '/etc/libvirt/qemu.conf');
  } catch (error) {
    if (isTrustError(error, 'configuration.malformed')) return error;
  }
  return assert.fail(`accepted ${JSON.stringify(content)}`);
}

for (const { name, bytes } of shipped) {
  test(`Debian's ${name} comes back byte for byte and sets nothing`, () => {
    const configuration = parseConfiguration(bytes, name);
    assert.deepEqual(Buffer.from(configuration.toBytes()), bytes);
    assert.deepEqual(configuration.entries(), []);
  });

  test(`Debian's ${name} with every commented-out default switched on reads as libvirt reads it`, () => {
    const enabled = bytes.toString().replace(/^#(?=[a-z_]+ ?= ?["[0-9])/gm, '');
    const names = [...enabled.matchAll(/^([a-z_]+) ?=/gm)].map((match) => match[1]);
    // The shipped multi-line lists keep `#` before their elements; take those away as well.
    const whole = enabled.replace(/\[\n((?:#.*\n)+?)#\]/g, (list) => list.replaceAll('#', ''));
    assert.deepEqual(
      parseConfiguration(whole, name)
        .entries()
        .map((entry) => entry.key),
      names,
    );
  });

  test(`any edits of Debian's ${name} keep every other line, and restoring them gives the file back`, () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(key, value), { maxLength: 6 }), (edits) => {
        const configuration = parseConfiguration(bytes, name);
        for (const [k, v] of edits) configuration.set(k, v);
        const last = new Map(edits);
        for (const [k, v] of last) assert.deepEqual(configuration.get(k), v);
        const added = configuration.toString().split('\n').length - bytes.toString().split('\n').length;
        assert.ok(added <= last.size + 1);
        const again = parseConfiguration(configuration.toBytes(), name);
        for (const k of last.keys()) again.restore(k, parseConfiguration(bytes));
        assert.deepEqual(Buffer.from(again.toBytes()), bytes);
      }),
      { numRuns: 40 },
    );
  });
}

test('a default that is commented out gets its setting on the line below it', () => {
  const configuration = parseConfiguration('# Port\n#tls_port = "16514"\n\nother = 1\n');
  configuration.set('tls_port', '16515');
  assert.equal(configuration.toString(), '# Port\n#tls_port = "16514"\ntls_port = "16515"\n\nother = 1\n');
});

test('a commented-out list gets its setting below the line that closes it', () => {
  const configuration = parseConfiguration('#nvram = [\n#   "a",\n#   "b"\n#]\n# next\n');
  configuration.set('nvram', ['c']);
  assert.equal(configuration.toString(), '#nvram = [\n#   "a",\n#   "b"\n#]\nnvram = [ "c" ]\n# next\n');
});

test('keys that the file does not know go below one marker at its end', () => {
  const configuration = parseConfiguration('a = 1');
  configuration.set('b', 2);
  configuration.set('c', 'x');
  assert.equal(configuration.toString(), 'a = 1\n# Added by virt-trust\nb = 2\nc = "x"\n');
});

test('a setting is replaced in place and the comment behind it stays', () => {
  const configuration = parseConfiguration('\tlisten_tcp=1 # by Ann\r\n');
  configuration.set('listen_tcp', 0);
  assert.equal(configuration.toString(), '\tlisten_tcp=0 # by Ann\r\n');
});

test('of a key that is set twice the first counts, as in libvirt, and unset comments out both', () => {
  const configuration = parseConfiguration('a = 1\na = 2\n');
  assert.equal(configuration.get('a'), 1);
  configuration.unset('a');
  assert.equal(configuration.toString(), '#a = 1\n#a = 2\n');
  assert.equal(configuration.get('a'), undefined);
});

test('unset of one statement of a line with several leaves the others', () => {
  const configuration = parseConfiguration('a = 1; b = [ 1,\n 2 ]; c = 3\n');
  configuration.unset('b');
  assert.equal(configuration.toString(), 'a = 1; #b = [ 1,\n# 2 ]\n c = 3\n');
});

test('comments in Latin-1 survive an edit', () => {
  const bytes = Buffer.from('# gepr\xfcft\na = 1\n', 'latin1');
  const configuration = parseConfiguration(bytes);
  configuration.set('a', 2);
  assert.deepEqual(Buffer.from(configuration.toBytes()), Buffer.from('# gepr\xfcft\na = 2\n', 'latin1'));
});

test('strings of all three kinds, integers of 64 bits and nested lists are read', () => {
  const configuration = parseConfiguration(
    `a = "x # \\"; b = 'say "ü"'\nc = """two\n"lines\\"""; d = [ -1, [ 'n', ], +2 ]\ne = 18446744073709551615\nf = """"""\n`,
  );
  assert.deepEqual(
    configuration.entries().map((entry) => entry.value),
    ['x # \\', 'say "ü"', 'two\n"lines\\', [-1, ['n'], 2], 18446744073709551615n, ''],
  );
});

test('what libvirt refuses is refused with file, line and reason', () => {
  for (const [content, reason] of [
    ['ok = 1\n= 2\n', 'line 2: expecting a name'],
    ['ok 1\n', 'line 1: expecting an assignment'],
    ['ok =\n', 'line 1: expecting a value'],
    ['\n\nok = yes\n', 'line 3: expecting a value'],
    ['ok = "a\n"', 'line 1: unterminated string'],
    ["ok = 'a", 'line 1: unterminated string'],
    ['ok = """a\nbc\n', 'line 1: unterminated string'],
    ['ok = -\n', 'line 1: unterminated number'],
    ['ok = 1 2\n', 'line 1: expecting a separator'],
    ['ok = [ 1 2 ]\n', 'line 1: expecting a separator in list'],
    ['ok = [ 1\n', 'line 2: list is not closed with ]'],
    ['ok = [\n # no comment here\n 1 ]\n', 'line 2: expecting a value'],
    ['\ufeffok = 1\n', 'line 1: expecting a name'],
    [`ok = ${'['.repeat(20)}`, 'line 1: lists nested deeper than 8'],
  ] as const) {
    assert.equal(refusal(content).message, `cannot read /etc/libvirt/qemu.conf: ${reason}`);
  }
  assert.match(refusal('#'.repeat(1024 * 1024 + 1)).message, /1048577 bytes are more than 1048576/);
});

test('values and keys that the syntax cannot hold are refused and change nothing', () => {
  const configuration = parseConfiguration('a = 1\n');
  for (const bad of ['\0', `'"`, '"""\n', '\ud800', 1.5, Number.NaN]) {
    assert.throws(() => configuration.set('a', bad), { code: 'configuration.unrepresentable' });
  }
  for (const bad of ['', '1a', 'a b', 'a\nlisten_tcp', 'a-b']) {
    assert.throws(() => configuration.set(bad, 1), { code: 'configuration.key_malformed' });
  }
  assert.equal(configuration.toString(), 'a = 1\n');
});

test('any bytes are read or refused as malformed, and what is read comes back byte for byte', () => {
  fc.assert(
    fc.property(
      fc.oneof(
        fc.uint8Array({ maxLength: 60 }),
        file.map((f) => Buffer.from(f)),
      ),
      (bytes) => {
        try {
          assert.deepEqual(Buffer.from(parseConfiguration(bytes).toBytes()), Buffer.from(bytes));
        } catch (error) {
          assert.ok(isTrustError(error, 'configuration.malformed'), String(error));
        }
      },
    ),
    { numRuns: 500 },
  );
});

test('in any file, set is read back, other keys keep their values, and restore gives the file back', () => {
  fc.assert(
    fc.property(file, key, value, fc.boolean(), fc.boolean(), (content, k, v, unsetFirst, unsetLast) => {
      const original = parseConfiguration(content);
      const edited = parseConfiguration(content);
      if (unsetFirst) edited.unset(k);
      edited.set(k, v);
      assert.deepEqual(edited.get(k), v);
      if (unsetLast) {
        edited.unset(k);
        assert.equal(edited.get(k), undefined);
      }
      const others = (of: typeof original) =>
        of
          .entries()
          .filter((entry) => entry.key !== k)
          .map((entry) => [entry.key, entry.value]);
      assert.deepEqual(others(edited), others(original));
      edited.restore(k, original);
      if (unsetFirst || unsetLast) assert.deepEqual(edited.get(k), original.get(k));
      else assert.equal(edited.toString(), content);
    }),
    { numRuns: 1000 },
  );
});

test('in any file, unset and restore give the file back', () => {
  fc.assert(
    fc.property(file, key, (content, k) => {
      const original = parseConfiguration(content);
      const edited = parseConfiguration(content);
      edited.unset(k);
      assert.equal(edited.get(k), undefined);
      edited.restore(k, original);
      assert.equal(edited.toString(), content);
    }),
    { numRuns: 1000 },
  );
});
