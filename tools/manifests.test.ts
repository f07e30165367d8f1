import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { VERSION } from '@virt-trust/base/version.ts';

interface Manifest {
  readonly name: string;
  readonly version: string;
  readonly license: string;
  readonly private: boolean;
  readonly type: string;
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly devDependencies?: Readonly<Record<string, string>>;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
}

const root = join(import.meta.dirname, '..');
const manifests = globSync(
  ['package.json', 'packages/*/package.json', 'lab/package.json', 'bench/package.json'],
  {
    cwd: root,
  },
).map((file): [string, Manifest] => [file, JSON.parse(readFileSync(join(root, file), 'utf8')) as Manifest]);

test('every workspace has the version, the licence and the form of the whole', () => {
  assert.equal(manifests.length, 13);
  for (const [file, { version, license, private: hidden, type }] of manifests)
    assert.deepEqual([version, license, hidden, type], [VERSION, 'Apache-2.0', true, 'module'], file);
});

test('every dependency is pinned to one version, the same in every workspace', () => {
  const pinned = new Map<string, string>();
  for (const [file, manifest] of manifests) {
    for (const [name, version] of Object.entries({
      ...manifest.dependencies,
      ...manifest.devDependencies,
      ...manifest.optionalDependencies,
    })) {
      assert.match(version, /^\d+\.\d+\.\d+$/, `${file}: ${name}`);
      assert.equal(pinned.get(name) ?? version, version, `${file}: ${name}`);
      pinned.set(name, version);
    }
  }
});

test('the lock file names what the manifests ask for', () => {
  const { packages } = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')) as {
    packages: Record<string, Partial<Manifest>>;
  };
  for (const [file, manifest] of manifests) {
    const locked = packages[file.replace(/\/?package\.json$/, '')];
    assert.deepEqual(locked?.dependencies ?? {}, manifest.dependencies ?? {}, file);
    assert.deepEqual(locked?.devDependencies ?? {}, manifest.devDependencies ?? {}, file);
    assert.deepEqual(locked?.optionalDependencies ?? {}, manifest.optionalDependencies ?? {}, file);
  }
});
