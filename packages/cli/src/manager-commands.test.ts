import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { ServedManager } from './fixtures.ts';

let manager: ServedManager;
before(async () => {
  manager = await ServedManager.start();
});
after(() => manager.stop());

async function shows(transcript: string): Promise<void> {
  assert.equal(await manager.shell.replay(transcript), transcript);
}

test('settings are listed, set for a scope, read with where they come from, and taken back', () =>
  shows(`
$ virt-trust setting get jobs.retention_days
jobs.retention_days = 30 (from default)
  Days that jobs are kept after they are over. Default: 30.
  integer, for: global
  global: not set
  default: 30, which wins
$ virt-trust setting set jobs.retention_days 7
jobs.retention_days = 7 (from global)
  Days that jobs are kept after they are over. Default: 30.
  integer, for: global
  global: 7, which wins
  default: 30
$ virt-trust setting set certificate.lifetime 90d --cluster lab
certificate.lifetime = "90d" (from cluster)
  How long certificates are valid whose successors are loaded live: of libvirt, migration, VNC and backups. From 5m to 3650d, never past the authority's end; renewed after half of it. Shortened, it renews those that are valid for longer, in waves. Default: "180d".
  duration, for: global, cluster, host
  cluster lab: "90d", which wins
  global: not set
  default: "180d"
warning: no host is in cluster lab: this holds for those that will be
$ virt-trust setting get certificate.lifetime --cluster lab
certificate.lifetime = "90d" (from cluster)
  How long certificates are valid whose successors are loaded live: of libvirt, migration, VNC and backups. From 5m to 3650d, never past the authority's end; renewed after half of it. Shortened, it renews those that are valid for longer, in waves. Default: "180d".
  duration, for: global, cluster, host
  cluster lab: "90d", which wins
  global: not set
  default: "180d"
$ virt-trust setting get certificate.lifetime
certificate.lifetime = "180d" (from default)
  How long certificates are valid whose successors are loaded live: of libvirt, migration, VNC and backups. From 5m to 3650d, never past the authority's end; renewed after half of it. Shortened, it renews those that are valid for longer, in waves. Default: "180d".
  duration, for: global, cluster, host
  global: not set
  default: "180d", which wins
$ virt-trust setting set channel.manager_addresses 192.0.2.1,2001:db8::1 --json
{
  "name": "channel.manager_addresses",
  "value": [
    "192.0.2.1",
    "2001:db8::1"
  ],
  "default": [],
  "from": "global",
  "description": "Addresses from which the manager's connections arrive at hosts, besides those from which they did; hosts make themselves known there, and their firewalls let these in.",
  "type": "list",
  "scopes": [
    "global",
    "cluster",
    "host"
  ],
  "chain": [
    {
      "scope": "global",
      "target": "",
      "value": [
        "192.0.2.1",
        "2001:db8::1"
      ],
      "wins": true
    },
    {
      "scope": "default",
      "target": "",
      "value": [],
      "wins": false
    }
  ],
  "warnings": [],
  "jobs": []
}
$ virt-trust setting set jobs.retention_days
jobs.retention_days = 30 (from default)
  Days that jobs are kept after they are over. Default: 30.
  integer, for: global
  global: not set
  default: 30, which wins
$ virt-trust setting list | head -3
NAME  VALUE  FROM  TYPE  FOR  WHAT IT IS
alarm.authority_expiry_critical  "90d"  default  duration  global  How long before its end a certificate of an authority is critical; bounded by alarm.expiry_critical_percent as others are.
alarm.authority_expiry_warning  "1y"  default  duration  global  How long before its end a certificate of an authority is a warning; bounded by alarm.expiry_warning_percent as others are.
$ virt-trust setting set jobs.retention_days soon
error: cannot set jobs.retention_days: not a whole number from 1 to 3650
hint: Days that jobs are kept after they are over.
[exit 2]
$ virt-trust setting set jobs.retention_days 7 --cluster lab
error: cannot set jobs.retention_days for a cluster: it holds for global only
hint: set it without --cluster and --host
[exit 2]
$ virt-trust setting set migration.post_copy on --cluster lab
migration.post_copy = true (from cluster)
  Whether a VM is switched over after the first pass, its memory fetched as it is used; it is lost where the hosts then lose each other. Default: false.
  boolean, for: global, cluster, host
  cluster lab: true, which wins
  global: not set
  default: false
warning: no host is in cluster lab: this holds for those that will be
$ virt-trust setting set migration.live off --cluster lab --json 2>/dev/null | tail -5
  "warnings": [
    "no host is in cluster lab: this holds for those that will be"
  ],
  "jobs": []
}
$ virt-trust setting set migration.post_copy maybe
error: cannot set migration.post_copy: not true or false (on or off)
hint: Whether a VM is switched over after the first pass, its memory fetched as it is used; it is lost where the hosts then lose each other.
[exit 2]
$ virt-trust setting get nothing.here
error: cannot find setting nothing.here
hint: see them with: virt-trust setting list
[exit 3]
$ virt-trust setting get certificate.lifetime --host nobody
error: cannot find host nobody: there is none of that name
hint: see them with: virt-trust host list
[exit 3]
$ virt-trust setting set key.algorithm des
error: cannot set key.algorithm: not one of ecdsa-p256, ecdsa-p384, rsa-2048, rsa-3072
hint: Key algorithm of certificates: ecdsa-p256, ecdsa-p384, rsa-2048, rsa-3072. A change renews those with another, in waves.
[exit 2]
`));

test('tokens are made, used, listed without their secrets, and deleted', () =>
  shows(`
$ virt-trust token create watcher --role auditor
TOKEN
It is shown this once; only its hash is kept.
$ virt-trust token create watcher --role auditor
error: cannot make token watcher: there is one of that name
hint: choose another name, or delete that one first
[exit 4]
$ virt-trust token create second --role root
error: option '--role <role>' argument 'root' is invalid. Allowed choices are administrator, operator, auditor.
hint: see what there is with --help
[exit 2]
$ virt-trust token create 'a b' --role auditor
error: cannot accept request at /name: "a b" is not a name of letters, digits, dots, dashes and underscores that begins and ends with a letter or digit
[exit 2]
$ virt-trust token list
ID  NAME  ROLE  MADE  LAST USED
ID  administrator  administrator  TIME  TIME
ID  watcher  auditor  TIME  -
$ virt-trust token list --json | grep -c secret
0
[exit 1]
$ virt-trust token delete 00000000-0000-4000-8000-000000000000 --yes
error: cannot find token ID
[exit 3]
$ virt-trust token delete "$(virt-trust token list --json | grep -B1 watcher | grep -o '[0-9a-f-]\\{36\\}')"
error: nothing was done: this was not confirmed
hint: in a script, say --yes
[exit 2]
$ virt-trust token delete "$(virt-trust token list --json | grep -B1 watcher | grep -o '[0-9a-f-]\\{36\\}')" --yes
$ virt-trust token list
ID  NAME  ROLE  MADE  LAST USED
ID  administrator  administrator  TIME  TIME
`));

test('authorities are listed and shown, and exported for clients', () =>
  shows(`
$ virt-trust authority list
NAME  PURPOSE  PROVIDER  KEY  EXPIRES  SUBJECT
console  console  internal  ecdsa-p256-sha256  TIME  CN=virt-trust console issuing NN,O=virt-trust
control  control  internal  ecdsa-p256-sha256  TIME  CN=virt-trust control issuing NN,O=virt-trust
migration  migration  internal  ecdsa-p256-sha256  TIME  CN=virt-trust migration issuing NN,O=virt-trust
storage  storage  internal  ecdsa-p256-sha256  TIME  CN=virt-trust storage issuing NN,O=virt-trust
$ virt-trust authority show control
control  CN=virt-trust control issuing NN,O=virt-trust
  purpose control, provider internal, key ecdsa-p256-sha256, valid until TIME
  name constraints: none
$ virt-trust authority show nobody
error: cannot find an authority named nobody
hint: see them with: virt-trust authority list
[exit 3]
$ virt-trust authority export control | openssl crl2pkcs7 -nocrl -certfile /dev/stdin | openssl pkcs7 -print_certs -noout | grep subject
subject=O = virt-trust, CN = virt-trust control issuing NN
subject=O = virt-trust, CN = virt-trust control root NN
`));

test('certificates are listed, and one that is not there is not found', () =>
  shows(`
$ virt-trust certificate list
SERIAL  STATE  HOST  SERVICE  AUTHORITY  EXPIRES  NAMES
$ virt-trust certificate list --json
[]
$ virt-trust certificate list --host 'a;b'
error: cannot accept request at /host: "a;b" is not a name of letters, digits, dots, dashes and underscores that begins and ends with a letter or digit
[exit 2]
$ virt-trust certificate show 0F:FF
error: cannot find a certificate with serial number 0fff
hint: see them with: virt-trust certificate list
[exit 3]
$ virt-trust certificate show xyz
error: cannot accept request at /serial: "xyz" is not a serial number of 2 to 40 hexadecimal digits in lower case
[exit 2]
$ virt-trust certificate issue kvm1 libvirt --csr missing.pem
error: cannot read the file of --csr: ENOENT: no such file or directory, open 'missing.pem'
[exit 2]
$ virt-trust certificate issue kvm1 smtp --csr missing.pem
error: command-argument value 'smtp' is invalid for argument 'service'. Allowed choices are libvirt, migration, vnc, spice, nbd, backup.
hint: see what there is with --help
[exit 2]
$ echo nonsense >csr.pem; virt-trust certificate issue kvm1 libvirt --csr csr.pem
error: cannot accept request at /csr: must match pattern "^-----BEGIN "
[exit 2]
`));

test('the audit log is listed and verified', async () => {
  await shows(`
$ virt-trust audit verify | sed 's/[0-9]* entries/N entries/'
intact: N entries, head HASH
$ virt-trust audit verify --json | grep intact
  "intact": true
$ virt-trust audit list | head -2
NO  AT  ACTOR  ACTION  SUBJECT  OUTCOME  DETAIL
1  TIME  manager  authority.create  control  done  CN=virt-trust control issuing NN,O=virt-trust, pin PIN
`);
});

test('alarms: none, an unknown one; a webhook is set, shown without its secret, tried and removed', () =>
  shows(`
$ virt-trust alarm list
ID  SEVERITY  STATE  SINCE  KIND  ABOUT  WHAT HAPPENED
$ virt-trust alarm list --json
[]
$ virt-trust alarm ack 1234abcd
error: cannot find an alarm whose id begins with 1234abcd
hint: see them with: virt-trust alarm list --all
[exit 3]
$ virt-trust alarm show nothing
error: cannot accept request at /id: "nothing" is not a UUID in lower case
[exit 2]
$ virt-trust webhook show
alarms are sent nowhere; set a webhook with: virt-trust webhook set URL
$ virt-trust webhook test
error: cannot find a webhook: alarms are sent nowhere
hint: set one with: virt-trust webhook set URL
[exit 3]
$ virt-trust webhook set http://169.254.169.254/latest
error: cannot send to 169.254.169.254: link-local, multicast and metadata addresses receive no webhooks
hint: name the address of the machine that receives the alarms
[exit 5]
$ printf short >secret; virt-trust webhook set http://127.0.0.1:1/ --secret-file secret
error: cannot use the secret of --secret-file: 5 characters, not 16 to 256
[exit 2]
$ printf 'sixteen or more characters' >secret; virt-trust webhook set http://127.0.0.1:1/ --secret-file secret
Try it with: virt-trust webhook test
$ virt-trust webhook show
url  http://127.0.0.1:1/
waiting  0
dropped  0
last taken  -
last failure -
$ virt-trust webhook test
not delivered: connect ECONNREFUSED 127.0.0.1:1
[exit 1]
$ virt-trust webhook set http://127.0.0.1:1/ 2>&1 | sed -E 's/^[A-Za-z0-9_-]{43}$/43 characters/'
43 characters
The secret is shown this once; receivers check Virt-Trust-Signature with it.
Try it with: virt-trust webhook test
$ virt-trust webhook remove --yes
$ virt-trust webhook show --json
null
`));

test('hosts: an unknown one, names that are none, and what the gates are', () =>
  shows(`
$ virt-trust host list
NAME  CLUSTER  STATE  CHANNEL  MIGRATES BY  ALARMS  SERVICES  NEXT EXPIRY  REASON
$ virt-trust host show kvm1
error: cannot find host kvm1: there is none of that name
hint: see them with: virt-trust host list
[exit 3]
$ virt-trust host show ..
error: cannot accept request at /name: ".." is not a name of letters, digits, dots, dashes and underscores that begins and ends with a letter or digit
[exit 2]
$ virt-trust host show ''
error: cannot accept request at /name: "" is not a name of letters, digits, dots, dashes and underscores that begins and ends with a letter or digit
[exit 2]
$ virt-trust host show "$(printf 'kvm\\033[31m1')"
error: cannot accept request at /name: "kvm\\u001b[31m1" is not a name of letters, digits, dots, dashes and underscores that begins and ends with a letter or digit
[exit 2]
$ virt-trust host add 'kvm1; reboot' --ssh root@kvm1
error: cannot accept request at /name: "kvm1; reboot" is not a name of letters, digits, dots, dashes and underscores that begins and ends with a letter or digit
[exit 2]
$ virt-trust host add kvm1 --ssh -oProxyCommand=reboot
error: cannot accept request at /ssh/destination: "-oProxyCommand=reboot" is not HOST or USER@HOST as ssh takes it
[exit 2]
$ virt-trust host add kvm1 --ssh=-oProxyCommand=reboot
error: cannot accept request at /ssh/destination: "-oProxyCommand=reboot" is not HOST or USER@HOST as ssh takes it
[exit 2]
$ virt-trust host add kvm1 --ssh root@kvm1 --ssh-fingerprint MD5:00
error: cannot accept request at /fingerprint: "MD5:00" is not an SSH fingerprint as ssh-keygen -lf prints it: SHA256: and 43 characters
[exit 2]
$ virt-trust host add kvm1 --ssh root@kvm1 --ssh-port 70000
error: option '--ssh-port <port>' argument '70000' is invalid. It must be a whole number from 1 to 65535.
hint: see what there is with --help
[exit 2]
$ virt-trust host provision
error: cannot provision: no host was named
hint: name hosts, or a cluster with --cluster
[exit 2]
$ virt-trust host provision --cluster nowhere
error: cannot provision cluster nowhere: no managed host is in it
hint: see them with: virt-trust host list
[exit 3]
$ virt-trust host provision kvm1 --provider acme
error: option '--provider <kind>' argument 'acme' is invalid. Allowed choices are internal.
hint: see what there is with --help
[exit 2]
$ virt-trust host provision kvm1 kvm2
HOST  STATE  WHAT CAME OF IT
kvm1  refused  cannot find host kvm1: there is none of that name
kvm2  refused  cannot find host kvm2: there is none of that name
error: cannot provision 2 of 2 hosts: kvm1, kvm2
hint: each says above why; the others are done
[exit 1]
$ virt-trust host gate kvm1 everything
error: command-argument value 'everything' is invalid for argument 'gate'. Allowed choices are serve, vnc-tls, plain-tcp-off, retire-found-ca.
hint: see what there is with --help
[exit 2]
$ virt-trust host gate kvm1 serve
error: nothing was done: this was not confirmed
hint: in a script, say --yes
[exit 2]
$ virt-trust host remove kvm1
error: nothing was done: this was not confirmed
hint: in a script, say --yes
[exit 2]
$ virt-trust host remove kvm1 --yes
error: cannot find host kvm1: there is none of that name
hint: see them with: virt-trust host list
[exit 3]
$ virt-trust migrate web --from kvm1 --to kvm2
error: cannot find host kvm1: there is none of that name
hint: see them with: virt-trust host list
[exit 3]
`));

test('jobs and the identity of the manager', () =>
  shows(`
$ virt-trust job list
ID  KIND  SUBJECT  STATE  MADE  OUTCOME
$ virt-trust job show 00000000-0000-4000-8000-000000000000
error: cannot find job ID
[exit 3]
$ virt-trust job watch 1
error: cannot accept request at /id: "1" is not a UUID in lower case
[exit 2]
$ virt-trust job list --limit 0
error: option '--limit <count>' argument '0' is invalid. It must be a whole number from 1 to 1000.
hint: see what there is with --help
[exit 2]
$ virt-trust manager identity
current  PIN
next  PIN
`));

test('a token that is wrong, or may not do this, is refused with an exit code of its own', () =>
  shows(`
$ VIRT_TRUST_TOKEN=vt_wrong virt-trust host list
error: cannot let the request in: the token is not known
hint: send \`authorization: Bearer vt_...\` with a token that \`virt-trust token\` or the first start showed
[exit 5]
$ VIRT_TRUST_TOKEN="$(printf 'a\\nb')" virt-trust host list
error: cannot use the token: it is not one word of ASCII
hint: a token begins with vt_ and is one line
[exit 2]
$ VIRT_TRUST_TOKEN="$(virt-trust token create reader --role auditor 2>/dev/null)" virt-trust setting set jobs.retention_days 7
error: cannot do putSetting: it is for the role administrator, token reader has auditor
hint: use a token with the role administrator
[exit 5]
`));

test('the fleet is frozen and let go on, and nothing is to be renewed where no host is', () =>
  shows(`
$ virt-trust renewal list
AT  HOST  SERVICE  STATE  EXPIRES  SERIAL  LAST FAILURE
$ virt-trust freeze --reason "storage work"
frozen since TIME by token:administrator: storage work; let it go on with: virt-trust unfreeze
$ virt-trust renewal list
frozen since TIME by token:administrator: storage work; let it go on with: virt-trust unfreeze
AT  HOST  SERVICE  STATE  EXPIRES  SERIAL  LAST FAILURE
$ virt-trust unfreeze
renewals and repairs go on
$ virt-trust unfreeze --json | head -2
{
  "frozen": false,
$ virt-trust certificate renew 0F:FF
error: cannot find a certificate with serial number 0fff
hint: see them with: virt-trust certificate list
[exit 3]
$ virt-trust certificate renew kvm1 vnc
error: cannot find host kvm1: there is none of that name
hint: see them with: virt-trust host list
[exit 3]
$ virt-trust setting set renewal.window "Sun 02:00-05:00 Mars/Olympus"
error: cannot set renewal.window: not always, or windows like \`Sat,Sun 02:00-05:00 Europe/Berlin\` with \`;\` between them
hint: When renewals may begin: always, or windows like \`Sat,Sun 02:00-05:00 Europe/Berlin\` with \`;\` between them. Days are Mon to Sun, in lists and ranges, each day where there are none; the time zone is one of IANA's, UTC where there is none; an end that is not after the start is the next day's. Where no window opens in the first five sixths of a certificate's life, it is renewed then in spite of them.
[exit 2]
`));
