import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type ConnectionFile, encodeConnectionFile } from './vv-file.ts';

const FILE: ConnectionFile = {
  type: 'spice',
  host: '192.0.2.11',
  tlsPort: 5902,
  password: 'secret',
  ca: '-----BEGIN\nA\n',
  title: 'guest on kvm1',
  hostSubject: null,
};

test('remote-viewer(1): SPICE has its CA in the file and no channel without TLS', () => {
  assert.equal(
    encodeConnectionFile(FILE),
    `[virt-viewer]
type=spice
host=192.0.2.11
tls-port=5902
password=secret
ca=-----BEGIN\\nA\\n
secure-channels=main;display;inputs;cursor;playback;record;smartcard;usbredir;webdav
title=guest on kvm1
delete-this-file=1
`,
  );
});

test('remote-viewer(1): VNC has one port, and its CA elsewhere', () => {
  const text = encodeConnectionFile({ ...FILE, type: 'vnc', password: null });
  assert.match(text, /^type=vnc\nhost=192\.0\.2\.11\nport=5902\ntitle=/m);
  assert.doesNotMatch(text, /password|ca=/);
});

test('SECURITY: no value makes a line of its own, and each comes back as it was', () => {
  const value = fc.oneof(fc.string(), fc.constantFrom('\n[virt-viewer]\nhost=evil', ' a\\n\r\t', '\\'));
  fc.assert(
    fc.property(value, value, value, (title, hostSubject, password) => {
      const lines = encodeConnectionFile({ ...FILE, title, hostSubject, password }).split('\n');
      const names = lines.slice(1, -1).map((line) => line.slice(0, line.indexOf('=')));
      assert.deepEqual(names, [
        ...['type', 'host', 'tls-port', 'password', 'ca', 'secure-channels', 'host-subject', 'title'],
        'delete-this-file',
      ]);
      const read = lines.find((line) => line.startsWith('title='))?.slice(6) ?? '';
      const back = read.replace(/\\([\\nrts])/g, (_, one: string) => UNESCAPED[one] ?? '');
      assert.equal(back, title);
    }),
  );
});

/** The escapes of GLib's GKeyFile. */
const UNESCAPED: Readonly<Record<string, string>> = { '\\': '\\', n: '\n', r: '\r', t: '\t', s: ' ' };
