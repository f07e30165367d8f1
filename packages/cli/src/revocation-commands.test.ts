import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { ServedManager } from './fixtures.ts';

let manager: ServedManager;
before(async () => {
  manager = await ServedManager.start();
});
after(() => manager.stop());

async function shows(transcript: string): Promise<void> {
  const seen = (await manager.shell.replay(transcript))
    .replace(/\b[0-9a-f]{11}\b/g, 'NUMBER')
    .replace(/\b[0-9a-f]{34}\b/g, 'SERIAL');
  assert.equal(seen, transcript);
}

test('each authority has an empty CRL from the first start on; refreshing signs it anew', () =>
  shows(`
$ virt-trust crl list
AUTHORITY  NUMBER  ISSUED  NEXT UPDATE  REFRESH  ENTRIES  HOSTS  BEHIND
console  NUMBER  TIME  TIME  TIME  0  0/0  -
control  NUMBER  TIME  TIME  TIME  0  0/0  -
migration  NUMBER  TIME  TIME  TIME  0  0/0  -
storage  NUMBER  TIME  TIME  TIME  0  0/0  -
`));

test('what cannot be revoked is refused at once, and says why', () =>
  shows(`
$ virt-trust certificate revoke 41:00:AA --reason keyCompromise --yes
error: cannot revoke certificate 4100aa: no authority here has issued it
hint: see them with: virt-trust certificate list
[exit 3]
$ virt-trust certificate revoke 4100aa --reason keyCompromise
error: nothing was done: this was not confirmed
hint: in a script, say --yes
[exit 2]
$ virt-trust certificate revoke 4100aa --reason stolen --yes
error: option '--reason <reason>' argument 'stolen' is invalid. Allowed choices are unspecified, keyCompromise, cACompromise, affiliationChanged, superseded, cessationOfOperation, certificateHold, privilegeWithdrawn, aACompromise.
hint: see what there is with --help
[exit 2]
$ virt-trust certificate release 4100aa --yes
error: cannot release certificate 4100aa: no authority here has issued it
hint: see them with: virt-trust certificate list
[exit 3]
$ virt-trust certificate revoke "$(virt-trust authority export control | openssl x509 -noout -serial | cut -d= -f2)" --reason cACompromise --yes
error: cannot revoke certificate SERIAL: it is the issuing CA of authority control itself, which no CRL of its own can revoke
hint: an authority that is not trusted any more has to be replaced on every host
[exit 4]
$ virt-trust host revoke kvm9 --reason keyCompromise --yes
error: cannot find host kvm9: there is none of that name
hint: see them with: virt-trust host list
[exit 3]
$ virt-trust crl show control | cut -c 1-12
authority  
number  
issued  
next update 
refresh  
entries  
hosts  
behind
$ virt-trust crl show elsewhere
error: cannot find an authority named elsewhere
hint: see them with: virt-trust authority list
[exit 3]
$ virt-trust crl show control --pem | openssl crl -noout -text | grep -c 'No Revoked'
1
$ virt-trust crl refresh 2>&1 | tail -1
0 of 0 hosts have the newest CRLs, proven on 0
`));

test('a host that is not there, or a service that was not named, is no empty answer', () =>
  shows(`
$ virt-trust certificate list --host kvm9
error: cannot find host kvm9: there is none of that name
hint: see them with: virt-trust host list
[exit 3]
$ virt-trust renewal list --host kvm9 --json
error: cannot find host kvm9: there is none of that name
hint: see them with: virt-trust host list
[exit 3]
$ virt-trust alarm list --host kvm9
error: cannot find host kvm9: there is none of that name
hint: see them with: virt-trust host list
[exit 3]
$ virt-trust certificate renew kvm9
error: cannot renew kvm9: neither a serial number nor a host with one of its services
hint: name the service: virt-trust certificate renew kvm9 libvirt|migration|vnc|spice|nbd|backup; all of a host: virt-trust host provision kvm9 --renew
[exit 2]
`));
