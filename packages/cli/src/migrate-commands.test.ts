import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { MIGRATION_OPTION_FLAGS } from '@virt-trust/contract/model/migration-option-words.ts';
import { ServedManager, Shell } from './fixtures.ts';

let manager: ServedManager;
before(async () => {
  manager = await ServedManager.start();
});
after(() => manager.stop());

async function shows(transcript: string): Promise<void> {
  assert.equal(await manager.shell.replay(transcript), transcript);
}

test('hosts without an agent are made known, shown as such, and forgotten', () =>
  shows(`
$ virt-trust host add old1 --unmanaged 192.0.2.77 --cluster rack1
warning: nothing secures migrations from and to old1: they go in the clear
host old1 is known at 192.0.2.77 in cluster rack1, without an agent
$ virt-trust host list
NAME  CLUSTER  STATE  CHANNEL  MIGRATES BY  ALARMS  SERVICES  NEXT EXPIRY  REASON
old1  rack1  unmanaged  -  plain  -  -  -  no agent; libvirt is taken to be at 192.0.2.77
0 of 1 hosts secured; the others lack:
  old1: it has no agent; mend it with: virt-trust host remove old1 && virt-trust host add old1 --ssh root@192.0.2.77
$ virt-trust host list --json | grep -E 'name|state'
    "name": "old1",
    "state": "unmanaged"
$ virt-trust host add old2 --unmanaged 127.0.0.1
error: cannot know host old2 at 127.0.0.1: that is no address at which others reach it
hint: give the IPv4 or IPv6 address at which its libvirtd listens for the other hosts
[exit 2]
$ virt-trust host add old2 --unmanaged 192.0.2.78 --observe
error: cannot add host old2: --unmanaged goes with --cluster alone, and nothing is enrolled
hint: leave out --unmanaged to take the host under management
[exit 2]
$ virt-trust host add old2
error: required option '--ssh <user@host>' not specified
hint: a host without an agent is made known with: virt-trust host add old2 --unmanaged ADDRESS
[exit 2]
$ virt-trust host add old2 --unmanaged 192.0.2.78
warning: nothing secures migrations from and to old2: they go in the clear
host old2 is known at 192.0.2.78 in cluster default, without an agent
$ virt-trust migrate --matrix --cluster rack1
One host alone in cluster rack1, old1: nothing to migrate between.
$ virt-trust migrate --matrix --cluster rack7
error: cannot show how VMs would migrate in cluster rack7: no host is in it
hint: see them with: virt-trust host list
[exit 3]
$ virt-trust host provision --cluster rack1
error: cannot provision cluster rack1: no managed host is in it (old1 has no agent)
hint: see them with: virt-trust host list
[exit 3]
$ virt-trust setting set migration.flags 0x200 --cluster rack1 | head -1
migration.flags = 512 (from cluster)
$ virt-trust setting set migration.parallel 4 --host old2 | head -1
migration.parallel = 4 (from host)
$ virt-trust migrate web --from old1 --to old2
error: cannot migrate web from old1 to old2: no mode is feasible: tls: old1 has no agent, old2 has no agent; pinned: old1 has no agent, old2 has no agent; plain: neither old1 nor old2 has an agent that could conduct it
hint: take it under management: virt-trust host add old1 --ssh USER@ADDRESS (after virt-trust host remove old1)
[exit 4]
$ virt-trust migrate --all --from old1
error: cannot empty old1: it has no agent that would say which VMs run there
hint: migrate them one by one: virt-trust migrate VM --from old1 --to HOST
[exit 4]
$ virt-trust host add old2 --unmanaged 192.0.2.78 --cluster rack2 | tail -1
warning: nothing secures migrations from and to old2: they go in the clear
host old2 is known at 192.0.2.78 in cluster rack2, without an agent
$ virt-trust host add old2 --unmanaged 192.0.2.80 | tail -1
warning: nothing secures migrations from and to old2: they go in the clear
host old2 is known at 192.0.2.80 in cluster rack2, without an agent
$ virt-trust host remove old2 --yes
what was set for it is forgotten, too: migration.parallel
host old2 is forgotten; nothing was done on it
$ virt-trust host add old2 --unmanaged 192.0.2.78
warning: nothing secures migrations from and to old2: they go in the clear
host old2 is known at 192.0.2.78 in cluster default, without an agent
$ virt-trust setting get migration.parallel --host old2 | head -1
migration.parallel = 0 (from default)
$ virt-trust host remove old2 --yes
host old2 is forgotten; nothing was done on it
$ virt-trust host remove old2 --yes
error: cannot find host old2: there is none of that name
hint: see them with: virt-trust host list
[exit 3]
`));

test('what needs an agent says of a host without one that it is unmanaged, and what can be done', async () => {
  const { shell } = manager;
  await shell.run('virt-trust host add bare --unmanaged 192.0.2.79');
  for (const words of [
    'host provision bare',
    'host collect bare',
    'host roll-key bare',
    'host gate bare plain-tcp-off --yes',
    'host revoke bare --reason keyCompromise --yes',
    'host rename bare other',
    'host set-address bare 192.0.2.80',
    'interface list bare',
    'certificate list --host bare',
    'renewal list --host bare',
    'console web --host bare',
  ]) {
    const { code, output } = await shell.run(`virt-trust ${words}`);
    assert.match(output, /^error: cannot .* host bare: it is unmanaged/, words);
    assert.match(output, /host remove bare, then virt-trust host add bare --ssh root@192\.0\.2\.79/, words);
    assert.equal(code, 4, words);
  }
  await shows(`
$ virt-trust host add bare --ssh root@192.0.2.79 --ssh-fingerprint SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA
error: cannot record host bare: a host without an agent is known by that name
hint: if it is the same machine, forget that entry first: virt-trust host remove bare
[exit 4]
`);
});

test('every option of a migration is one of the command, under the name that messages give it', async () => {
  const shell = new Shell();
  try {
    const { output } = await shell.run('virt-trust migrate --help');
    for (const flag of Object.values(MIGRATION_OPTION_FLAGS))
      assert.match(output, new RegExp(`^  ${flag}\\b`, 'm'));
  } finally {
    shell.remove();
  }
});

test('words of a migration that do not fit together are refused before anything is asked', async () => {
  const shell = new Shell();
  const wrong = async (words: string, said: RegExp) => {
    const { code, output } = await shell.run(`virt-trust migrate ${words}`);
    assert.match(output, said);
    assert.equal(code, 2, output);
  };
  try {
    await wrong('', /--from is missing/);
    await wrong('web --from a', /--to is missing/);
    await wrong('--from a --to b', /the VM is missing/);
    await wrong('web --from a --to b,c', /one VM goes to one host, and --to names b, c/);
    await wrong('web --all --from a', /both a VM \(web\) and --all/);
    await wrong('--all --from a --plan', /--plan is for one VM/);
    await wrong('--all --from a --offline', /--all moves VMs that run/);
    await wrong('--all --from a --force', /--force is for one VM/);
    await wrong('web --from a --to b --concurrency 2', /--concurrency belongs to --all/);
    await wrong('web --from a --to b --probe', /--probe belongs to --matrix/);
    await wrong('web --matrix', /--matrix is about all hosts/);
    await wrong('--matrix --mode tls', /--matrix goes by the settings alone: it takes no --mode/);
    await wrong('--matrix --no-post-copy', /it takes no --post-copy/);
    await wrong('--matrix --concurrency 2', /it takes no --concurrency/);
    await wrong(
      'web --from a --to b --copy-storage all --copy-disks VDA',
      /targets of disks .* such as vda,vdb/,
    );
    await wrong('web --from a --to b --mode tls,tls', /of tls, pinned, plain, each once/);
    await wrong('web --from a --to b --flags 0x80000000', /up to 0x7fffffff/);
    await wrong('web --from a --to b --copy-storage some', /Allowed choices are none, all, inc/);
    await wrong('web --from a --to b --timeout-action pray', /Allowed choices are abort, suspend, post-copy/);
    await wrong('web --from a --to b --parallel 65', /whole number from 0 to 64/);
  } finally {
    shell.remove();
  }
});
