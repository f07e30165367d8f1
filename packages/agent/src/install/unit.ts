/**
 * The unit of the agent, as closed as its work allows (systemd.exec(5)). What stays open and why:
 * - root, CHOWN, FOWNER, FSETID, DAC_*: puts files of any owner in place and back;
 * - SETUID, SETGID, KILL: tries credentials as the QEMU user; NET_ADMIN: nftables; MAC_ADMIN: AppArmor profiles;
 * - no MemoryDenyWriteExecute: the JavaScript engine compiles to memory;
 * - no RestrictSUIDSGID: directories that were found with the set-group-ID bit are put back so;
 * - ProtectProc stays open: VMs are found by their QEMU processes;
 * - no ProtectHostname: in a namespace of its own the agent would never see the host renamed. CAP_SYS_ADMIN, which setting
 *   the name takes, it does not have.
 */
export function unitText(command: readonly string[]): string {
  return `[Unit]
Description=virt-trust agent: keeps the TLS certificates of libvirt and QEMU right
After=network.target local-fs.target nftables.service firewalld.service
StartLimitIntervalSec=0

[Service]
Type=exec
ExecStart=${command.join(' ')}
Restart=always
RestartSec=1
TimeoutStopSec=30
# What the agent runs on the host comes to its end: a reload of libvirtd that is cut off leaves it closed to clients.
KillMode=mixed
RuntimeDirectory=virt-trust
RuntimeDirectoryMode=0711
# Conductors and relays of migrations go on without the agent, and have their files there.
RuntimeDirectoryPreserve=yes
UMask=0077
LimitCORE=0

CapabilityBoundingSet=CAP_CHOWN CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER CAP_FSETID CAP_KILL CAP_MAC_ADMIN CAP_NET_ADMIN CAP_SETGID CAP_SETUID
AmbientCapabilities=
NoNewPrivileges=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
LockPersonality=yes
KeyringMode=private

ProtectSystem=strict
ReadWritePaths=/etc /var/lib /run /usr/local
ReadWritePaths=-/sys/kernel/security -/sys/fs/selinux
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectClock=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectControlGroups=yes

[Install]
WantedBy=multi-user.target
`;
}

/** Whoever opens libvirt's sockets or serves: the guard is done before any of them. */
const GUARDED = ['libvirtd', 'virtproxyd', 'virtqemud'].flatMap((daemon) => [
  `${daemon}.service`,
  ...['', '-ro', '-admin', '-tls', '-tcp'].map((kind) => `${daemon}${kind}.socket`),
]);

/**
 * The unit of the guard: once at boot, before libvirt, which waits for it and needs it not (no Requires=, no failure,
 * a bound). Without default dependencies, because sockets are opened before them.
 */
export function guardUnitText(command: readonly string[]): string {
  return `[Unit]
Description=virt-trust guard: lets libvirt and VMs start where certificates have expired
Documentation=man:systemd.unit(5)
DefaultDependencies=no
After=local-fs.target time-set.target
Before=${GUARDED.join(' ')} virt-trust-agent.service
Conflicts=shutdown.target
Before=shutdown.target
RequiresMountsFor=/var/lib/virt-trust ${command[0]}
ConditionPathExists=${command[0]}
ConditionPathExists=/var/lib/virt-trust/services

[Service]
Type=oneshot
ExecStart=-${command.join(' ')}
TimeoutStartSec=30
UMask=0077
LimitCORE=0
CapabilityBoundingSet=CAP_CHOWN CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER CAP_FSETID
NoNewPrivileges=yes
RestrictAddressFamilies=AF_UNIX
ProtectSystem=strict
ReadWritePaths=/var/lib/virt-trust
ProtectHome=yes

[Install]
WantedBy=multi-user.target
`;
}
