/** The agent's version, as it tells it. */
export const AGENT_VERSION = '0.1.0';
