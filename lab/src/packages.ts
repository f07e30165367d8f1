import { TrustError } from '@virt-trust/base/error.ts';
import { exec, run } from './command.ts';

/** The Debian packages that the lab needs on the machine itself. */
export const MACHINE_PACKAGES: readonly string[] = [
  'iproute2',
  'mmdebstrap',
  'openssh-client',
  'systemd-container',
];

const APT = ['apt-get', '-o', 'DPkg::Lock::Timeout=600', '-o', 'APT::Update::Error-Mode=any', '-q', '-y'];
const APT_ENV = { ...aptEnvironment(), DEBIAN_FRONTEND: 'noninteractive', LC_ALL: 'C.UTF-8' };

/** Those of the packages that are not fully installed. */
async function missingPackages(names: readonly string[]): Promise<string[]> {
  // biome-ignore lint/suspicious/noTemplateCurlyInString: the form of dpkg-query(1)
  const format = ['-W', '-f', '${db:Status-Status} ${Package}\n'];
  const { stdout } = await exec(['dpkg-query', ...format, ...names]);
  const there = new Set(
    stdout.split('\n').flatMap((line) => (line.startsWith('installed ') ? [line.slice(10).trim()] : [])),
  );
  return names.filter((name) => !there.has(name));
}

/**
 * Installs what is missing with apt-get, without recommended packages, refreshing apt's lists only if it does
 * not get on without; returns what it installed; throws `lab.packages`.
 */
export async function ensurePackages(
  names: readonly string[],
  say: (text: string) => void = () => {},
): Promise<string[]> {
  const missing = await missingPackages(names);
  if (missing.length === 0) return [];
  say(`installing ${missing.join(' ')}`);
  const install = [...APT, '--no-install-recommends', 'install', ...missing];
  const first = await exec(install, { env: APT_ENV });
  if (first.code !== 0) {
    say("refreshing apt's lists");
    await updateLists();
    const second = await exec(install, { env: APT_ENV });
    if (second.code !== 0) throw aptError(`install ${missing.join(' ')}`, second.stderr);
  }
  const left = await missingPackages(missing);
  if (left.length > 0)
    throw aptError(`install ${left.join(' ')}`, 'apt-get ended well but they are not there');
  return missing;
}

/** Refreshes apt's lists; throws `lab.packages`. */
async function updateLists(): Promise<void> {
  const { code, stderr } = await exec([...APT, 'update'], { env: APT_ENV });
  if (code !== 0) throw aptError("refresh apt's lists", stderr);
}

/** The machine's own Debian sources as one-line entries, without those of other vendors; throws `lab.packages`. */
export async function debianSources(): Promise<string[]> {
  const ask = ['apt-get', 'indextargets', '--format', 'deb $(REPO_URI) $(RELEASE) $(COMPONENT)'];
  const filter = ['Created-By: Packages', 'Origin: Debian'];
  const sources = async () =>
    [...new Set((await run([...ask, ...filter])).split('\n').filter(Boolean))].sort();
  const known = await sources();
  if (known.length > 0) return known;
  // Who a source belongs to is known only from its downloaded Release file.
  await updateLists();
  const now = await sources();
  if (now.length > 0) return now;
  throw aptError('find a Debian package source', 'none of the sources of apt has the origin Debian');
}

/** The machine's settings of how apt downloads (proxies, say), as text of an apt.conf. */
export async function aptDownloadSettings(): Promise<string> {
  const lines = (await run(['apt-config', 'dump'])).split('\n');
  return lines
    .filter((line) => /^Acquire::(?:https?|ftp|Check-Valid-Until|Check-Date)\b/.test(line))
    .join('\n');
}

function aptError(what: string, stderr: string): TrustError {
  const said = stderr
    .split('\n')
    .filter((line) => /^(?:E|W|Err|dpkg):?/.test(line))
    .slice(-6)
    .join('; ');
  return new TrustError('lab.packages', 'unavailable', `cannot ${what}: ${said || stderr.trim()}`, {
    hint: 'see what `apt-get update` and `apt-get install` say on this machine',
  });
}

function aptEnvironment(): Record<string, string> {
  const kept: Record<string, string> = {};
  for (const name of ['PATH', 'HOME', 'http_proxy', 'https_proxy', 'no_proxy']) {
    const value = process.env[name];
    if (value !== undefined) kept[name] = value;
  }
  return kept;
}
