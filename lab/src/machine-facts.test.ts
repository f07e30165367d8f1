import assert from 'node:assert/strict';
import { test } from 'node:test';
import { availableMemory } from './capability.ts';
import { parseHierarchies } from './cgroup.ts';
import { hostsFile } from './host-disk.ts';
import { planHosts } from './host-plan.ts';
import { parseOsRelease } from './os-release.ts';
import { ROOT_RECIPE, recipeDigest } from './root-recipe.ts';

test('os-release(5) is read quoted or not', () => {
  const text =
    '# a comment\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\nVERSION_CODENAME=\'bookworm\'\n';
  const expected = { id: 'debian', codename: 'bookworm', prettyName: 'Debian GNU/Linux 12 (bookworm)' };
  assert.deepEqual(parseOsRelease(text), expected);
  assert.deepEqual(parseOsRelease(''), { id: '', codename: '', prettyName: '' });
});

test('the hierarchies of systemd are found on a unified and on a hybrid machine', () => {
  const unified = '30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate';
  assert.deepEqual(parseHierarchies(unified), ['/sys/fs/cgroup']);
  const hybrid = [
    '31 30 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu',
    '32 30 0:28 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd',
    '33 30 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw',
    '34 30 0:30 / /tmp rw - tmpfs tmpfs rw',
    '',
  ];
  assert.deepEqual(parseHierarchies(hybrid.join('\n')), ['/sys/fs/cgroup/systemd', '/sys/fs/cgroup/unified']);
});

test('available memory is read in bytes', () => {
  assert.equal(availableMemory('MemTotal:  9 kB\nMemAvailable:    2048 kB\n'), 2 ** 21);
  assert.equal(availableMemory(''), 0);
});

test('every host finds every other by name in both families', () => {
  const plans = planHosts({
    name: 'x',
    index: 1,
    hosts: ['host-a', 'host-b'],
    networks: ['management'],
    root: '/root',
    owner: 1,
  });
  const text = hostsFile(plans);
  for (const line of ['10.213.8.11 host-a', '10.213.8.12 host-b', 'fd8a:5c31:d07e:9::12 host-b']) {
    assert.ok(text.split('\n').includes(line), line);
  }
});

test('a root is another one when its recipe, its release or its architecture is', () => {
  const digests = [
    recipeDigest(ROOT_RECIPE, 'bookworm', 'x64'),
    recipeDigest(ROOT_RECIPE, 'trixie', 'x64'),
    recipeDigest(ROOT_RECIPE, 'bookworm', 'arm64'),
    recipeDigest({ ...ROOT_RECIPE, packages: [...ROOT_RECIPE.packages, 'hello'] }, 'bookworm', 'x64'),
  ];
  assert.equal(new Set(digests).size, digests.length);
  assert.equal(recipeDigest({ ...ROOT_RECIPE }, 'bookworm', 'x64'), digests[0]);
});
