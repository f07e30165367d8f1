import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type RunningChild, startServer } from './child.ts';
import { freePort, takesConnections } from './ports.ts';

/** Debian's CFSSL: installs it where it is missing and root runs this; false where it cannot be had. */
export function haveCfssl(say: (line: string) => void): boolean {
  if (existsSync('/usr/bin/cfssl')) return true;
  if (process.getuid?.() !== 0) return false;
  say('Installing golang-cfssl ...');
  const installed = spawnSync('apt-get', ['install', '-y', '-qq', '--no-install-recommends', 'golang-cfssl']);
  return installed.status === 0 && existsSync('/usr/bin/cfssl');
}

/** An EC P-256 authority of OpenSSL's making: `ca.pem` and `ca-key.pem`. */
export function makeAuthority(directory: string): void {
  mkdirSync(directory, { recursive: true });
  execFileSync(
    'openssl',
    [
      ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '3650'],
      ...['-subj', '/O=virt-trust/CN=bench', '-keyout', 'ca-key.pem', '-out', 'ca.pem'],
    ],
    { cwd: directory, stdio: 'ignore' },
  );
}

/** `cfssl serve` with an EC P-256 authority; it records nothing. */
export async function startCfssl(directory: string): Promise<RunningChild & { readonly port: number }> {
  makeAuthority(directory);
  const port = await freePort();
  const files = ['-ca', join(directory, 'ca.pem'), '-ca-key', join(directory, 'ca-key.pem')];
  const child = await startServer(
    'cfssl',
    ['serve', '-address', '127.0.0.1', '-port', String(port), '-loglevel', '5', ...files],
    () => takesConnections(port),
  );
  return { port, stop: child.stop };
}

/** Certificates a second of `openssl ca`, a process for each, which records in a text file. */
export function measureOpensslCa(directory: string, requests: readonly string[], seconds: number): number {
  makeAuthority(directory);
  writeFileSync(join(directory, 'index.txt'), '');
  writeFileSync(join(directory, 'serial'), '1000\n');
  writeFileSync(
    join(directory, 'ca.cnf'),
    `[ca]
default_ca = own
[own]
database = index.txt
serial = serial
new_certs_dir = .
certificate = ca.pem
private_key = ca-key.pem
default_md = sha256
default_days = 180
policy = any
copy_extensions = copy
unique_subject = no
[any]
organizationName = optional
commonName = supplied
`,
  );
  let count = 0;
  const start = performance.now();
  while (performance.now() - start < seconds * 1000) {
    writeFileSync(join(directory, 'request.pem'), requests[count % requests.length] as string);
    execFileSync(
      'openssl',
      ['ca', '-batch', '-notext', '-config', 'ca.cnf', '-in', 'request.pem', '-out', 'out.pem'],
      {
        cwd: directory,
        stdio: 'ignore',
      },
    );
    count++;
  }
  return count / ((performance.now() - start) / 1000);
}
