import { globSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** Which packages a package may import; a package that is not named here may import none. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  base: [],
  pki: ['base'],
  contract: ['base'],
  channel: ['base', 'pki'],
  libvirt: ['base', 'pki'],
  connect: ['base', 'pki', 'libvirt'],
  check: ['base', 'pki', 'libvirt', 'connect'],
  agent: ['base', 'pki', 'channel', 'contract', 'libvirt', 'connect', 'check'],
  manager: ['base', 'pki', 'channel', 'contract', 'libvirt', 'connect'],
  cli: ['base', 'pki', 'contract', 'libvirt', 'connect', 'check', 'agent', 'manager'],
};

/** Inside the manager the domain folders know neither HTTP nor SQL; the files beside the folders compose. */
const MANAGER_EDGES = ['http', 'store'];

/** Tests and what serves them alone use real parts of every layer of their package. */
const FOR_TESTS = /(?:\.test|\/fixtures|\/(?:fixture|test|crash)-[a-z-]+)\.ts$/;

/** Every import of the checkout at `root` that goes upwards or sideways, one line each, and every circle of folders. */
export function layerViolations(root: string): string[] {
  const violations: string[] = [];
  const folders = new FolderImports();
  for (const file of globSync('packages/*/src/**/*.ts', { cwd: root }).sort()) {
    const own = file.split('/')[1] ?? '';
    for (const specifier of importsOf(readFileSync(join(root, file), 'utf8'))) {
      const reason = violationOf(file, own, specifier);
      if (reason !== null) violations.push(`${file}: ${reason}`);
      else if (specifier.startsWith('.') && !FOR_TESTS.test(file))
        folders.add(file, join(file, '..', specifier));
    }
  }
  return [...violations, ...folders.circles()];
}

/** Which folders import which; a program's `main.ts` is above the folder that it lies in. */
class FolderImports {
  /** One file's import stands for all of those between two folders. */
  readonly #of = new Map<string, Map<string, string>>();

  add(file: string, target: string): void {
    const [from, to] = [file, target].map((one) => (one.endsWith('/src/main.ts') ? one : dirname(one)));
    if (from === undefined || to === undefined || from === to) return;
    const targets = this.#of.get(from) ?? new Map<string, string>();
    if (!targets.has(to)) targets.set(to, `${file} imports ${target}`);
    this.#of.set(from, targets);
  }

  /** One line for each circle that a walk from the first folder on comes back on. */
  circles(): string[] {
    const found: string[] = [];
    const done = new Set<string>();
    const walk = (folder: string, path: readonly string[]): void => {
      const begun = path.indexOf(folder);
      if (begun >= 0) found.push(this.#told([...path.slice(begun), folder]));
      if (begun >= 0 || done.has(folder)) return;
      for (const next of this.#of.get(folder)?.keys() ?? []) walk(next, [...path, folder]);
      done.add(folder);
    };
    for (const folder of this.#of.keys()) walk(folder, []);
    return found;
  }

  #told(circle: readonly string[]): string {
    const imports = circle.slice(1).map((to, index) => this.#of.get(circle[index] ?? '')?.get(to));
    return `${circle[0]}: folders import each other: ${imports.join(', ')}`;
  }
}

function importsOf(source: string): string[] {
  const pattern = /(?:\bfrom\s*|\bimport\s*\(\s*|^\s*import\s+)['"]([^'"]+)['"]/gm;
  return [...source.matchAll(pattern)].map((match) => match[1] ?? '');
}

function violationOf(file: string, own: string, specifier: string): string | null {
  const other = /^@virt-trust\/([a-z]+)\//.exec(specifier)?.[1];
  if (other !== undefined) {
    if (other === own) return `imports its own package by name: ${specifier}`;
    if (!(MAY_IMPORT[own] ?? []).includes(other))
      return `package ${own} may not import ${other}: ${specifier}`;
    if (own === 'cli' && (other === 'agent' || other === 'manager') && !isCommand(file))
      return `only a command may start ${other}: ${specifier}`;
    return null;
  }
  if (!specifier.startsWith('.')) return null;
  const target = join(file, '..', specifier);
  if (!target.startsWith(`packages/${own}/`)) return `leaves its package by a path: ${specifier}`;
  return own === 'manager' && !FOR_TESTS.test(file) ? managerViolation(file, target) : null;
}

function isCommand(file: string): boolean {
  return file.includes('/commands/') || FOR_TESTS.test(file);
}

function managerViolation(file: string, target: string): string | null {
  const [from, to] = [folderOf(file), folderOf(target)];
  if (from === null || to === null || MANAGER_EDGES.includes(from) || !MANAGER_EDGES.includes(to))
    return null;
  return `the domain folder ${from} may not import the edge ${to}`;
}

/** The folder below `src/` that a file of a package is in; null for one directly below it. */
function folderOf(file: string): string | null {
  const [, , , folder, rest] = file.split('/');
  return rest === undefined ? null : (folder ?? null);
}
