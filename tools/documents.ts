import { existsSync, globSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';

const NOT_OURS = ['**/node_modules/**', 'dist/**', '**/.cache/**', '**/.git/**'];

/** What the checkout's documents name and the checkout does not have: links and paths of code, one line each. */
export function documentDrift(root: string): string[] {
  const glob = (pattern: string) => globSync(pattern, { cwd: root, exclude: NOT_OURS });
  const files = glob('**/*.ts').map((file) => `/${file}`);
  // `pki/path.ts` is how documents speak of another package's module.
  const sources = [...files, ...files.map((file) => file.replace('/src/', '/'))];
  return glob('**/*.md')
    .sort()
    .flatMap((document) => {
      const text = readFileSync(join(root, document), 'utf8');
      const missing = [
        ...linksOf(text).filter((link) => !existsSync(join(root, dirname(document), link))),
        ...pathsOf(text).filter((path) => !existsSync(join(root, normalize(path)))),
        ...sourcesOf(text).filter((name) => !sources.some((file) => file.endsWith(`/${name}`))),
      ];
      return [...new Set(missing)].map((name) => `${document} names ${name}, which is not there`);
    });
}

/** Targets of links and images within the checkout, without their fragments. */
function linksOf(text: string): string[] {
  const targets = [...text.matchAll(/\]\(([^()\s]+)\)/g)].map((match) => match[1] ?? '');
  return targets
    .filter((target) => !/^(?:[a-z]+:|#)/.test(target))
    .map((target) => decodeURI(target.replace(/#.*$/, '')));
}

/** Paths from the root, in backquotes: `packages/pki/src`. */
function pathsOf(text: string): string[] {
  return [...text.matchAll(/`((?:packages|lab|bench|tools|docs)\/[\w./-]+)`/g)].map(
    (match) => match[1] ?? '',
  );
}

/** Modules by the end of their path, in backquotes: `der/reader.ts`. */
function sourcesOf(text: string): string[] {
  return [...text.matchAll(/`([\w-][\w./-]*\.ts)`/g)].map((match) => match[1] ?? '');
}
