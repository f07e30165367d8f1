/** Who stands at an end of a channel; a pin belongs to one role only. */
export type ChannelRole = 'manager' | 'agent';

/**
 * ALPN name (RFC 7301 §3.1) of the channel on which a manager dials an agent and speaks HTTP/2.
 * Each door and role has a name of its own, so that a handshake meant for one can never serve another.
 */
export const ALPN_MANAGER_TO_AGENT = 'virt-trust/manager-to-agent/1';

/** ALPN name of the announcement: an agent shows a manager its key, and that it is there. */
export const ALPN_ANNOUNCEMENT = 'virt-trust/agent-announcement/1';
