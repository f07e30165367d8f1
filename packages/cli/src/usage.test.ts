import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { Shell } from './fixtures.ts';

const shell = new Shell();
after(() => shell.remove());

async function shows(transcript: string): Promise<void> {
  assert.equal(await shell.replay(transcript), transcript);
}

test('help names every command and the exit codes; wrong words end with 2 and what was meant', () =>
  shows(`
$ virt-trust --version
0.1.0
$ virt-trust --help | grep -A 40 ^Commands:
Commands:
  serve [options]  Run the manager: embedded store and internal
                          authorities
  login [options]  Save the token for a manager, read from standard input
                          or asked for
  host  The hosts under management
  interface  The network interfaces of hosts, what they are for,
                          and their names
  certificate  The certificates that were issued
  renewal  The renewals to come, which begin by themselves
  freeze [options]  Stop all renewals and repairs that nobody asks for by
                          name, at once
  unfreeze [options]  Let renewals and repairs go on
  authority  The authorities, one for each purpose
  crl  The lists of revoked certificates, one for each
                          authority
  migrate [options] [vm]  Migrate a VM, or all of a host, or see how they would
  console [options] <vm>  Reach a VM's display over TLS, verified by name
  alarm  What wants a person's eye, and what to do about it
  webhook  Where alarms are sent to
  setting  Settings, global or for a cluster or host
  job  Work under way and done
  audit  The hash-chained log of every action
  token  Who may ask the manager
  manager  The manager's own key on its channels
  secret  The manager's secrets at rest
  backup [options]  Copy the store of the manager, which goes on serving;
                          without the seal key
  restore [options]  Put a backup in place of an empty store, for a manager
                          that goes on driving its hosts
  probe [options] <uri>  A real handshake from here, as the URI’s own client
                          makes it: which side refuses, and why
  check [options]  What is wrong with the TLS of libvirt and QEMU, here
                          or in a directory
  agent  The agent of this host (as root on it)
  completion <shell>  Words for the shell: source <(virt-trust completion
                          bash)
  help [command]  display help for command

Exit codes: 0 done, 1 failed, 2 wrong input, 3 not found, 4 conflict, 5 not allowed, 6 unavailable (try again), 70 fault of virt-trust
$ virt-trust hots
error: unknown command 'hots'
hint: did you mean host?
[exit 2]
$ virt-trust host shwo kvm1
error: unknown command 'shwo'
hint: did you mean show?
[exit 2]
$ virt-trust setting list --hots kvm1
error: unknown option '--hots'
hint: did you mean --host?
[exit 2]
$ virt-trust host show
error: missing required argument 'name'
hint: see what there is with --help
[exit 2]
$ virt-trust host show kvm1 kvm2
error: too many arguments for 'show'. Expected 1 argument but got 2: kvm1, kvm2.
hint: see what there is with --help
[exit 2]
$ virt-trust token create watcher
error: required option '--role <role>' not specified
hint: see what there is with --help
[exit 2]
$ virt-trust "$(printf 'a\\033[2Jb')"
error: unknown command 'a�[2Jb'
hint: see what there is with --help
[exit 2]
$ virt-trust job | head -1
Usage: virt-trust job [options] [command]

Work under way and done

Options:
  -h, --help  display help for command

Commands:
  list [options]  Jobs, newest first
  show [options] <id>  One job with its steps
  watch [options] <id>  Follow a job until it is over
  cancel [options] <id>  Cancel a job: what it did so far is taken back where
                         that can be
  help [command]  display help for command
`));

test('without a token, or with a place that is no manager, it says what is missing', () =>
  shows(`
$ virt-trust host list
error: cannot ask the manager at http://127.0.0.1:16516: there is no token for it
hint: give the one that the manager showed at its first start to: virt-trust login (or set VIRT_TRUST_TOKEN)
[exit 5]
$ VIRT_TRUST_TOKEN=vt_x VIRT_TRUST_URL=http://127.0.0.2:16516 virt-trust host list
error: cannot reach the manager at http://127.0.0.2:16516: connect ECONNREFUSED 127.0.0.2:16516
hint: see that it runs (virt-trust serve, or npm start in a checkout), or name another with VIRT_TRUST_URL
[exit 6]
$ VIRT_TRUST_TOKEN=vt_x VIRT_TRUST_URL=nonsense virt-trust host list
error: cannot use nonsense as the manager's URL
hint: write it like https://manager.example:16516
[exit 2]
$ VIRT_TRUST_TOKEN=vt_x VIRT_TRUST_URL=http://192.0.2.1:16516 virt-trust host list
error: cannot use http://192.0.2.1:16516: the token would travel unencrypted
hint: use https, or a tunnel: ssh -L 16516:127.0.0.1:16516 and http://127.0.0.1:16516
[exit 2]
$ virt-trust login
error: cannot log in: no token was given
hint: type it, or give it on standard input: virt-trust login <token.txt
[exit 2]
$ echo 'two words' | virt-trust login
error: cannot use the token: it is not one word of ASCII
hint: a token begins with vt_ and is one line
[exit 2]
$ echo vt_x | virt-trust login --url http://manager.example
error: cannot use http://manager.example: the token would travel unencrypted
hint: use https, or a tunnel: ssh -L 16516:127.0.0.1:16516 and http://127.0.0.1:16516
[exit 2]
`));

test('a probe of what is no libvirt or VNC, without authorities, or with half a client certificate', () =>
  shows(`
$ virt-trust probe https://kvm1.example/
error: cannot probe https://kvm1.example/: neither qemu+tls://HOST/system nor vnc://HOST:PORT nor spice://HOST?tls-port=PORT
[exit 2]
$ virt-trust probe qemu+tls://kvm1.example/system --ca missing.pem
error: cannot read the file of --ca: ENOENT: no such file or directory, open 'missing.pem'
[exit 2]
$ touch ca.pem; virt-trust probe qemu+tls://127.0.0.1:1/system --ca ca.pem --cert ca.pem
error: cannot show a client certificate: --cert and --key go together
[exit 2]
`));

test('a manager is not started where it cannot be, and the reason is said', () =>
  shows(`
$ virt-trust serve --state-dir state --listen 16516 --program /bin/true
error: cannot listen on 16516: not ADDRESS:PORT
hint: write it like 127.0.0.1:16516 or [::1]:16516
[exit 2]
$ virt-trust serve --state-dir state --listen 0.0.0.0:16516 --program /bin/true
error: cannot listen on 0.0.0.0: tokens would cross the network in the clear
hint: give --tls-certificate and --tls-key, or listen on 127.0.0.1
[exit 2]
$ virt-trust serve --state-dir state --tls-key key.pem --program /bin/true
error: cannot serve TLS: --tls-certificate and --tls-key go together
[exit 2]
$ virt-trust serve --state-dir state --tls-key key.pem --tls-certificate cert.pem --program /bin/true
error: cannot read the file of --tls-certificate: ENOENT: no such file or directory, open 'cert.pem'
[exit 2]
$ virt-trust serve --state-dir state --permit-subnet 10.0.0.0/33 --listen 127.0.0.1:0 --program /bin/true
error: cannot use name constraint "10.0.0.0/33": neither a DNS name nor an address range
[exit 2]
`));

test('a saved token goes to the manager that it was saved for, and to no other', async () => {
  const directory = join(shell.home, '.config/virt-trust');
  mkdirSync(directory, { recursive: true });
  const file = join(directory, 'credentials.json');
  writeFileSync(file, JSON.stringify({ url: 'http://127.0.0.2:16516', token: 'vt_saved' }));
  await shows(`
$ virt-trust host list
error: cannot reach the manager at http://127.0.0.2:16516: connect ECONNREFUSED 127.0.0.2:16516
hint: see that it runs (virt-trust serve, or npm start in a checkout), or name another with VIRT_TRUST_URL
[exit 6]
$ VIRT_TRUST_URL=http://127.0.0.3:16516 virt-trust host list
error: cannot ask the manager at http://127.0.0.3:16516: there is no token for it
hint: give the one that the manager showed at its first start to: virt-trust login (or set VIRT_TRUST_TOKEN)
[exit 5]
`);
  writeFileSync(file, 'nonsense');
  await shows(`
$ virt-trust host list
error: cannot read HOME/.config/virt-trust/credentials.json: not what virt-trust login writes
hint: delete it and log in anew: rm HOME/.config/virt-trust/credentials.json; virt-trust login
[exit 2]
`);
});

test('completion offers the commands and options of the very command tree, in a real bash', async () => {
  const complete = async (...words: string[]) => {
    const line = words.map((word) => `'${word}'`).join(' ');
    const { code, output } = await shell.run(
      `source <(virt-trust completion bash); COMP_WORDS=(virt-trust ${line}); COMP_CWORD=${words.length}; _virt_trust; printf '%s\\n' "\${COMPREPLY[@]}"`,
    );
    assert.equal(code, 0, output);
    return output.trim().split('\n');
  };
  assert.deepEqual(await complete('ho'), ['host']);
  assert.deepEqual(await complete('host', 's'), ['show', 'set-address']);
  assert.deepEqual(await complete('host', 'show', 'kvm1', '--j'), ['--json']);
  assert.deepEqual(await complete('migrate', 'web', '--from', 'kvm1', '--t'), [
    '--to',
    '--timeout',
    '--timeout-action',
  ]);
  assert.deepEqual(await complete('host', 'provision', 'kvm1', '--provider', ''), ['internal']);
  assert.deepEqual(await complete('host', 'provision', '--provider', 'internal', '--re'), [
    '--reconnect',
    '--renew',
  ]);
  assert.deepEqual(await complete('migrate', 'web', '--copy-storage', 'i'), ['inc']);
  assert.ok(!(await complete('agent', '')).includes('install'));
  const { output } = await shell.run('source <(virt-trust completion bash); complete -p virt-trust');
  assert.equal(output, 'complete -F _virt_trust virt-trust\n');
});
