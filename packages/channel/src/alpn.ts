/** Who stands at an end of a channel; a pin belongs to one role only. */
export type ChannelRole = 'manager' | 'agent';

/**
 * ALPN name (RFC 7301 §3.1) of the channel on which a manager dials an agent and speaks HTTP/2.
 * Each door and role has a name of its own, so that a handshake meant for one can never serve another.
 */
export const ALPN_MANAGER_TO_AGENT = 'virt-trust/manager-to-agent/1';

/** ALPN name of the channel on which an agent with a grant dials another agent and speaks HTTP/2. */
export const ALPN_AGENT_TO_AGENT = 'virt-trust/agent-to-agent/1';

/** ALPN name of a stream of libvirt's RPC to the relay of a migration in mode `pinned`. */
export const ALPN_MIGRATION_RPC = 'virt-trust/migration-rpc/1';

/** ALPN name of a stream of QEMU's (memory and devices) to the relay. */
export const ALPN_MIGRATION_STREAM = 'virt-trust/migration-stream/1';

/** ALPN name of a stream of QEMU's disks (NBD) to the relay. */
export const ALPN_MIGRATION_DISKS = 'virt-trust/migration-disks/1';

/** ALPN name of the announcement: an agent shows a manager its key, and that it is there. */
export const ALPN_ANNOUNCEMENT = 'virt-trust/agent-announcement/1';

/** The ALPN name of the HTTP/2 channel to an agent, by who dials it. */
export const ALPN_BY_DIALLER: Readonly<Record<ChannelRole, string>> = {
  manager: ALPN_MANAGER_TO_AGENT,
  agent: ALPN_AGENT_TO_AGENT,
};
