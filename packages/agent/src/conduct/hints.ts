/** What helps with an error of libvirt's or QEMU's, the most specific first. */
const HINTS: readonly (readonly [pattern: RegExp, hint: string])[] = [
  [
    /\brevoked\b/i,
    'a certificate of one host is revoked: see virt-trust certificate list; provision that host again once it can be trusted',
  ],
  [
    /Unable to read TLS confirmation|refuses our client certificate/i,
    "the destination's libvirtd refuses our client certificate: see its log, its clock and tls_allowed_dn_list there",
  ],
  [
    /certificate is not trusted|Failed to verify peer's certificate|hasn't got a known issuer|certificate.*(?:isn't|not) trusted|Unable to verify TLS peer|unknown issuer|signed by.*unknown/i,
    "one end does not trust the other's authority, or its certificate is revoked: provision both hosts again (virt-trust host provision)",
  ],
  [
    /certificate.*(?:expired|not yet active|not activated|not yet valid)|(?:expired|not yet active).*certificate/i,
    'a certificate or a clock is wrong: compare the clocks of both hosts, then provision them again',
  ],
  [
    /does not match the hostname|hostname.*(?:mismatch|does not match)|not match.*certificate|Certificate does not match|the certificate is for .*, not for/i,
    "the destination's certificate lacks the address that is used: declare it for the host, then provision it again",
  ],
  [
    /cannot trust (?:the chain|the peer|certificate)/i,
    "one end does not trust the other's authority, or its certificate is revoked: provision both hosts again (virt-trust host provision)",
  ],
  [
    /demands authentication by/i,
    'let libvirt there take this host without more than what the mode has: auth_tls or auth_tcp = "none" in its libvirtd.conf, then restart it',
  ],
  [
    /guest CPU doesn't match|CPU.*(?:incompatible|not compatible)|unsupported configuration:.*CPU|missing features/i,
    'the destination CPU lacks features that the VM uses: give the VM a CPU model that both hosts have',
  ],
  [
    /Unable to find.*(?:machine|emulator)|unsupported machine type|does not support machine|invalid argument.*machine/i,
    "the destination's QEMU lacks the VM's machine type or emulator: install the same or a newer QEMU there",
  ],
  [
    /cannot set CPU affinity/i,
    'the VM is pinned to CPUs that QEMU may not use on the destination: pin it to others (virsh vcpupin, emulatorpin, iothreadpin), or see there which are online and allowed (lscpu; AllowedCPUs of machine.slice)',
  ],
  [
    /TPM version '.*' is not supported|TPM.*emulator/i,
    "the destination has no emulator for the VM's TPM: install swtpm and swtpm-tools there",
  ],
  [
    /Read-only file system/i,
    'a disk of the VM is on a file system that is mounted read-only on the destination: mount it to be written there',
  ],
  [
    /requires '.*' to be a regular file/i,
    'what is under the path of a disk on the destination is no file: put the image there, or mount the storage',
  ],
  [
    /Could not open '[^']*': Permission denied|\(as uid:\d+, gid:\d+\): Permission denied/i,
    "QEMU's user does not get to one of the VM's disks on the destination: see modes and owner there (namei -l PATH)",
  ],
  [
    /Unsafe migration|shared storage|without shared storage/i,
    'the disks are not on shared storage: put them there, or copy them (--copy-storage all)',
  ],
  [
    /No such file or directory.*(?:image|qcow2|raw|img)|cannot access (?:storage|backing) file|Could not open .*(?:image|qcow2|img)|Storage source conflict/i,
    "the destination does not reach one of the VM's disks under the same path: mount the storage there",
  ],
  [
    /Cannot get interface MTU|Network not found|no network with matching name|Unable to add bridge|bridge.*No such device/i,
    "the destination lacks one of the VM's networks or bridges: create it there under the same name",
  ],
  [
    /already exists with uuid|domain '.*' already (?:exists|active|defined)|is already active/i,
    'a VM of that name or UUID is on the destination already: remove it there if it is a left-over',
  ],
  [
    /host_uuid|Attempt to migrate guest to the same host/i,
    'both hosts say the same host UUID: set different host_uuid in their libvirtd.conf, then restart libvirtd',
  ],
  [
    /Unable to find an unused port in range/i,
    'every port for migrations is taken on the destination: wait for the end of others, or widen migration_port_max in its qemu.conf',
  ],
  [
    /Failed to bind socket|Failed to reserve port|Failed to find an available port|Address already in use/i,
    "a display of the VM cannot listen on the destination: its port is taken, or its address is another host's; see virsh dumpxml (graphics)",
  ],
  [
    /referenced filter .* is missing|nwfilter.* not found|no nwfilter with/i,
    "the destination lacks a network filter of the VM's cards: define it there, too (virsh nwfilter-dumpxml, nwfilter-define)",
  ],
  [
    /different sizes|Image is not in .* format/i,
    'the image on the destination is not as the one at the source: where it is copied onto, make it anew there in the same format and size (qemu-img create); else have both hosts mount the same storage',
  ],
  [
    /unable to connect to (?:server|libvirt)|ECONNREFUSED|EHOSTUNREACH|no answer within|Connection refused|No route to host|Connection timed out|Network is unreachable/i,
    'the destination does not answer: see that libvirtd runs and listens there, and that its port (16514 for TLS, 16509 without) and 49152-49215 are open between the hosts',
  ],
  [
    /TLS is not (?:configured|enabled)|Unable to import (?:CA|client|server) |tls-creds|Unable to access credentials|TLS certificate|Certificate file/i,
    'the migration certificates are missing or unreadable on one host: provision both hosts again',
  ],
  [
    /TLS.*(?:handshake|alert)|Failed TLS|Unable to start TLS/i,
    "the TLS handshake failed: both hosts' migration certificates must be of one authority; provision both again",
  ],
  [
    /cannot allocate memory|Cannot set up guest memory|Out of memory/i,
    'the destination has too little free memory for the VM',
  ],
  [
    /domain is not running|Domain not found|failed to get domain/i,
    'the VM does not run on the source host now',
  ],
  [
    /another migration job|already has .*job|cannot acquire state change lock/i,
    'another job works on the VM: wait for its end (virsh domjobinfo), then try again',
  ],
  [
    /operation aborted|canceled by client|migration.*cancell?ed/i,
    'somebody cancelled it; the VM goes on where it ran',
  ],
  [
    /(?:write to|read from) (?:the )?socket|Broken pipe|Connection reset/i,
    'the hosts lost each other, or QEMU on the other one ended: see the way between them (ping from each to the other) and /var/log/libvirt/qemu there, then migrate again',
  ],
  [
    /nested|not migratable|device.*(?:not support|blocker)|hostdev/i,
    'a device of the VM cannot be migrated: detach it',
  ],
];

/** What to do about an error of a migration, in one sentence. */
export function hintFor(message: string): string {
  return (
    knownHint(message) ??
    'see the logs of libvirtd on both hosts: journalctl -u libvirtd, /var/log/libvirt/qemu'
  );
}

/** The same; undefined where nothing of its own is known to help. */
export function knownHint(message: string): string | undefined {
  return HINTS.find(([pattern]) => pattern.test(message))?.[1];
}
