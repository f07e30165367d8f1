/** Settings that agents of former versions did not know, as these behaved. */
const FORMER_SETTINGS = { tls: 'on', migrationWaitSeconds: 3600 };

/** A desired state as a former version of the agent left it, with the settings that it did not know. */
export function desiredFromOlder(value: unknown): unknown {
  if (!isRecord(value) || !isRecord(value['settings'])) return value;
  return { ...value, settings: { ...FORMER_SETTINGS, ...value['settings'] } };
}

/** An application that a former version of the agent left under way. */
export function journalFromOlder(value: unknown): unknown {
  return isRecord(value) ? { ...value, desired: desiredFromOlder(value['desired']) } : value;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
