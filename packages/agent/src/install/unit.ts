import { basename } from 'node:path';
import type { AgentPaths } from '../paths.ts';

/** The name of the agent's systemd unit. */
export function unitName(paths: AgentPaths): string {
  return basename(paths.unit);
}

/**
 * The unit of the agent, as closed as its work allows (systemd.exec(5)). What stays open and why:
 * - root, CHOWN, FOWNER, FSETID, DAC_*: puts files of any owner in place and back;
 * - SETUID, SETGID, KILL: tries credentials as the QEMU user; NET_ADMIN: nftables; MAC_ADMIN: AppArmor profiles;
 * - no MemoryDenyWriteExecute: the JavaScript engine compiles to memory;
 * - no RestrictSUIDSGID: directories that were found with the set-group-ID bit are put back so;
 * - ProtectProc stays open: VMs are found by their QEMU processes.
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
RuntimeDirectory=virt-trust
RuntimeDirectoryMode=0711
RuntimeDirectoryPreserve=restart
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
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectControlGroups=yes

[Install]
WantedBy=multi-user.target
`;
}
