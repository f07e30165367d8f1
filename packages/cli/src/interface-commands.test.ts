import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { systemClock } from '@virt-trust/base/clock.ts';
import { testHost, testInterface, testInventory } from '@virt-trust/manager/hosts/fixtures.ts';
import { SqliteHostRepository } from '@virt-trust/manager/store/host-repository.ts';
import { openStore } from '@virt-trust/manager/store/open-store.ts';
import { ServedManager } from './fixtures.ts';

/** Nobody listens there. */
const channel = { address: '127.0.0.9', port: 1 };
const management = { dns: ['kvm1'], addresses: ['192.0.2.11'] };
const display = { dns: ['kvm1.console.example'], addresses: ['10.0.3.7', 'fd00:3::7'] };
const eth2 = testInterface('eth2', [...display.addresses, 'fe80::7'], { kind: 'vlan', parent: 'bond0' });
const temporary = { ...eth2.addresses[1], address: 'fd00:3::abcd', leftOut: 'temporary (privacy)' };
const KVM1 = testHost('kvm1', {
  channel,
  observed: null,
  inventory: testInventory({
    hostName: 'kvm1',
    interfaces: [
      testInterface('lo', ['127.0.0.1'], { leftOut: 'loopback', kind: 'loopback' }),
      testInterface('eth0', ['192.0.2.11']),
      { ...eth2, addresses: [...eth2.addresses, temporary as (typeof eth2.addresses)[number]] },
      testInterface('vnet0', [], { leftOut: "a guest's tap", kind: 'tun', master: 'br0' }),
    ],
  }),
  declared: {
    interface: 'eth0',
    names: { dns: [...management.dns, ...display.dns], addresses: ['192.0.2.11', ...display.addresses] },
    interfaces: [
      { name: 'eth0', roles: ['management'], names: management },
      { name: 'eth2', roles: ['display'], names: display },
    ],
    refused: [],
  },
  word: {
    dns: ['kvm1'],
    accepted: ['192.0.2.11', ...display.addresses],
    outside: { dns: [], addresses: [] },
    interfaces: { eth2: { roles: ['display'], dns: display.dns, addresses: [] } },
  },
});
const KVM2 = testHost('kvm2', {
  channel,
  observed: null,
  inventory: testInventory({ hostName: 'kvm2', interfaces: [testInterface('eth0', ['192.0.2.12'])] }),
});
const WATCHED = testHost('kvm3', {
  channel,
  observed: null,
  observeOnly: true,
  state: 'observed',
  inventory: testInventory({ hostName: 'kvm3', interfaces: [testInterface('eth0', ['192.0.2.13'])] }),
});

let manager: ServedManager;
before(async () => {
  manager = await ServedManager.start();
  await manager.between(async (stateDirectory) => {
    const store = openStore(stateDirectory, systemClock);
    const repository = new SqliteHostRepository(store.database);
    for (const host of [KVM1, KVM2, WATCHED]) await repository.save(host);
    store.close();
  });
});
after(() => manager.stop());

async function shows(transcript: string): Promise<void> {
  assert.equal(await manager.shell.replay(transcript), transcript);
}

test('the interfaces of a host are listed with roles, what is left out and why, names and services', () =>
  shows(`
$ virt-trust interface list kvm1
INTERFACE  KIND  UP  ROLES  ADDRESSES  NAMES  SERVICES
eth0  hardware  yes  management (host add)  192.0.2.11/24  kvm1, 192.0.2.11  libvirt migration nbd backup
eth2  vlan of bond0  yes  display (interface set)  10.0.3.7/24, fd00:3::7/64, fe80::7/64 (left out: link-local), fd00:3::abcd/64 (left out: temporary (privacy))  kvm1.console.example, 10.0.3.7, fd00:3::7  vnc spice
lo  loopback  yes  left out: loopback  127.0.0.1/24  -  -
vnet0  tun, port of br0  yes  left out: a guest's tap  -  -  -
$ virt-trust interface list kvm1 --json | grep -A3 '"roles": \\[$' | grep from
        "from": "host add"
        "from": "interface set"
$ virt-trust interface list kvm9
error: cannot find host kvm9: there is none of that name
hint: see them with: virt-trust host list
[exit 3]
`));

test('a host is shown with which services are on which interface, under which names', () =>
  shows(`
$ virt-trust host show kvm1 | sed -n '/^INTERFACE/,/^$/p'
INTERFACE  SERVICES  NAMES
eth0  libvirt migration nbd backup  kvm1, 192.0.2.11
eth2  vnc spice  kvm1.console.example, 10.0.3.7, fd00:3::7
`));

test('what can not be set is refused at once, with the way out', () =>
  shows(`
$ virt-trust interface set kvm1 eth9 --roles display
error: cannot set interface eth9 of host kvm1: it has none of that name
hint: it has eth0, eth2
[exit 3]
$ virt-trust interface set kvm1 eth2 --roles graphics
error: option '--roles <list>' argument 'graphics' is invalid. It must be a list of management, migration, display, storage, or none, or auto.
hint: see what there is with --help
[exit 2]
$ virt-trust interface set kvm1 eth2 --name localhost
error: cannot give localhost to host kvm1: it is a loopback name (issuance.name_loopback)
[exit 2]
$ virt-trust interface set kvm1 eth2 --name 'a b'
error: cannot accept request at /dns/0: "a b" is not a DNS name in lower case
[exit 2]
$ virt-trust interface set kvm1 eth2 --address 192.0.2.12
error: cannot give 192.0.2.12 to host kvm1: host kvm2 has it
hint: if it moved, take it from that machine, then: virt-trust interface set kvm2 INTERFACE --release 192.0.2.12
[exit 4]
$ virt-trust interface set kvm1 eth2 --release 10.9.9.9
error: cannot release 10.9.9.9 of host kvm1: it has no such address
hint: see what it has with: virt-trust interface list kvm1
[exit 3]
$ virt-trust interface set kvm1 eth2 --name a.example --no-names
error: cannot set names: --name and --no-names were both given
[exit 2]
$ virt-trust interface set kvm3 eth0 --roles management
error: cannot change host kvm3: it was added to be observed only
hint: take it under management with: virt-trust host add kvm3 --ssh root@kvm3
[exit 4]
$ virt-trust interface set kvm3 eth0 --roles auto --no-names
error: cannot change host kvm3: it was added to be observed only
hint: take it under management with: virt-trust host add kvm3 --ssh root@kvm3
[exit 4]
`));

test("an address that is another host's, or nobody's, is not where a host is", () =>
  shows(`
$ virt-trust host set-address kvm1 192.0.2.12
error: cannot give 192.0.2.12 to host kvm1: host kvm2 has it
hint: if it moved, take it from that machine, then: virt-trust interface set kvm2 INTERFACE --release 192.0.2.12
[exit 4]
$ virt-trust host set-address kvm1 127.0.0.1
error: cannot give 127.0.0.1 to host kvm1: it is a loopback address (issuance.address_loopback)
[exit 2]
$ virt-trust host set-address kvm1 'a b'
error: cannot accept request at /address: "a b" is not a name of letters, digits, dots, dashes and underscores that begins and ends with a letter or digit
[exit 2]
$ virt-trust host set-address kvm1 192.0.2.41 --port 70000
error: option '--port <port>' argument '70000' is invalid. It must be a whole number from 1 to 65535.
hint: see what there is with --help
[exit 2]
$ virt-trust host set-address kvm9 192.0.2.41
error: cannot find host kvm9: there is none of that name
hint: see them with: virt-trust host list
[exit 3]
`));

test('a host is renamed, and a name that another has is not taken', () =>
  shows(`
$ virt-trust host rename kvm2 kvm1
error: cannot rename host kvm2: kvm1 already belongs to host kvm1
hint: choose another name, or rename that host first
[exit 4]
$ virt-trust host rename kvm2 localhost
error: cannot give localhost to host kvm2: it is a loopback name (issuance.name_loopback)
[exit 2]
$ virt-trust host rename kvm2 kvm22.example
host kvm2 is kvm22.example now; its certificates follow: virt-trust job list
$ virt-trust host show kvm2
error: cannot find host kvm2: there is none of that name
hint: see them with: virt-trust host list
[exit 3]
$ virt-trust audit list | grep -o 'host.rename .*'
host.rename  kvm2  refused  cannot rename host kvm2: kvm1 already belongs to host kvm1
host.rename  kvm2  refused  cannot give localhost to host kvm2: it is a loopback name (issuance.name_loopback)
host.rename  kvm22.example  done  was kvm2
`));

test('each command says how it is used, and where more is', () =>
  shows(`
$ virt-trust interface --help | tail -1
More: docs/interfaces.md
$ virt-trust interface set --help | grep -c '^  virt-trust interface set kvm1 eth2'
4
$ virt-trust host set-address --help | grep -c '^  virt-trust host set-address kvm1'
2
$ virt-trust host rename --help | grep Example
Example: virt-trust host rename kvm1 kvm1.rack2.example
`));
