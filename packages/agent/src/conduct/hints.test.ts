import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { hintFor } from './hints.ts';

describe('hintFor', () => {
  const cases: readonly (readonly [message: string, hint: RegExp])[] = [
    ['Unable to read TLS confirmation: Input/output error', /refuses our client certificate/],
    ["authentication failed: Failed to verify peer's certificate", /does not trust the other/],
    ['Certificate [session] owner does not match the hostname 192.0.2.2', /lacks the address/],
    ["unsupported configuration: guest CPU doesn't match specification: missing features: avx", /CPU/],
    ["unable to connect to server at '192.0.2.2:49152': Connection refused", /49152-49215/],
    ['Unsafe migration: Migration without shared storage is unsafe', /shared storage/],
    ["Cannot access storage file '/images/a.qcow2': No such file or directory", /mount the storage/],
    ["operation failed: domain 'a' already exists with uuid 1", /on the destination already/],
    ['Requested operation is not valid: Attempt to migrate guest to the same host 1', /host UUID/],
    [
      "operation failed: job 'migration out' failed: Unable to write to socket: Broken pipe",
      /lost each other.*migrate again/,
    ],
    [
      'internal error: process exited while connecting to monitor: qemu-system-x86_64: -vnc 192.0.2.1:0,tls-creds=vnc-tls-creds0: Failed to bind socket: Cannot assign requested address',
      /display/,
    ],
    ['internal error: Failed to reserve port 5950', /port is taken/],
    ["internal error: referenced filter 'mine' is missing", /network filter/],
    [
      'operation failed: migration of disk vda failed: Source and target image have different sizes',
      /make it anew/,
    ],
    ['Unable to import CA certificate list /etc/pki/x/ca-cert.pem', /missing or unreadable/],
    [
      "internal error: Unable to find an unused port in range 'migration' (49152-49215)",
      /migration_port_max/,
    ],
    ['something new', /see the logs/],
  ];
  for (const [message, hint] of cases)
    it(`helps with: ${message}`, () => assert.match(hintFor(message), hint));
});
