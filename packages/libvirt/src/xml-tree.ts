import { TrustError } from '@virt-trust/base/error.ts';

/** An element of a document: its attributes, its child elements, and its text, which beside children is mostly none. */
export interface XmlElement {
  readonly name: string;
  readonly attributes: ReadonlyMap<string, string>;
  readonly children: readonly XmlElement[];
  readonly text: string;
}

interface Open {
  readonly name: string;
  readonly attributes: Map<string, string>;
  readonly children: XmlElement[];
  text: string;
}

const DEPTH = 64;
const ELEMENTS = 100_000;
const SIZE = 4 << 20;
const NAME = '[A-Za-z_][\\w.:-]{0,255}';
const TAG = new RegExp(`<(${NAME})((?:\\s+${NAME}\\s*=\\s*(?:"[^"<]*"|'[^'<]*'))*)\\s*(/?)>`, 'y');
const ATTRIBUTE = new RegExp(`(${NAME})\\s*=\\s*(?:"([^"]*)"|'([^']*)')`, 'g');
/** XML 1.0 §2.7: in the metadata of VMs, as whoever wrote it wrote it. */
const CDATA = '<![CDATA[';
const CLOSING = new RegExp(`</(${NAME})\\s*>`, 'y');

/**
 * Reads XML as libvirt writes it: elements, attributes, text, comments, CDATA and the five entities of XML 1.0 §4.6; no
 * document types. Bounded in size, depth and number. Throws `xml.malformed`.
 */
export function parseXml(xml: string): XmlElement {
  if (xml.length > SIZE) throw malformed(`it has more than ${SIZE} characters`);
  const stack: Open[] = [];
  let root: XmlElement | undefined;
  let at = 0;
  let count = 0;
  const close = (open: Open) => {
    const element = { ...open, text: open.text.trim() };
    const parent = stack.at(-1);
    if (parent !== undefined) parent.children.push(element);
    else if (root === undefined) root = element;
    else throw malformed('it has two roots');
  };
  while (at < xml.length) {
    const start = xml.indexOf('<', at);
    const text = xml.slice(at, start < 0 ? xml.length : start);
    const parent = stack.at(-1);
    if (parent !== undefined) parent.text += decode(text);
    else if (text.trim() !== '') throw malformed('it has text around its root');
    if (start < 0) break;
    const skipped = skip(xml, start);
    if (skipped !== undefined) {
      at = skipped;
      continue;
    }
    if (parent !== undefined && xml.startsWith(CDATA, start)) {
      const end = xml.indexOf(']]>', start);
      if (end < 0) throw malformed('it ends in the middle');
      parent.text += characters(xml.slice(start + CDATA.length, end));
      at = end + 3;
      continue;
    }
    if (xml[start + 1] === '/') {
      const [whole, name] = matchAt(CLOSING, xml, start);
      const open = stack.pop();
      if (open === undefined || open.name !== name) throw malformed(`</${name}> closes what is not open`);
      close(open);
      at = start + whole.length;
      continue;
    }
    const [whole, name = '', attributes = '', empty] = matchAt(TAG, xml, start);
    if (++count > ELEMENTS || stack.length >= DEPTH) throw malformed('it has too many elements');
    const open: Open = { name, attributes: attributesOf(attributes), children: [], text: '' };
    if (empty === '/') close(open);
    else stack.push(open);
    at = start + whole.length;
  }
  if (stack.length > 0 || root === undefined) throw malformed('it ends in the middle');
  return root;
}

/** The elements at the end of a path of names below an element. */
export function elementsAt(element: XmlElement, ...path: readonly string[]): readonly XmlElement[] {
  return path.reduce<readonly XmlElement[]>(
    (found, name) => found.flatMap(({ children }) => children.filter((child) => child.name === name)),
    [element],
  );
}

/** The first of them; undefined where there is none. */
export function elementAt(element: XmlElement, ...path: readonly string[]): XmlElement | undefined {
  return elementsAt(element, ...path)[0];
}

/** Where a comment or declaration that begins here ends; undefined where none begins. */
function skip(xml: string, start: number): number | undefined {
  for (const [opening, closing] of [
    ['<!--', '-->'],
    ['<?', '?>'],
  ] as const) {
    if (!xml.startsWith(opening, start)) continue;
    const end = xml.indexOf(closing, start + opening.length);
    if (end < 0) throw malformed('it ends in the middle');
    return end + closing.length;
  }
  return undefined;
}

function matchAt(pattern: RegExp, xml: string, at: number): RegExpExecArray {
  pattern.lastIndex = at;
  const match = pattern.exec(xml);
  if (match === null) throw malformed(`what begins at character ${at} is no tag`);
  return match;
}

function attributesOf(text: string): Map<string, string> {
  const found = new Map<string, string>();
  for (const [, name = '', double, single] of text.matchAll(ATTRIBUTE)) {
    if (found.has(name)) throw malformed(`attribute ${name} is there twice`);
    found.set(name, decode(double ?? single ?? ''));
  }
  return found;
}

const ENTITIES: Readonly<Record<string, string>> = { lt: '<', gt: '>', amp: '&', quot: '"', apos: "'" };
/** XML 1.0 §2.2: what no document has, however it is written. */
const NO_CHARACTER = /[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\u{10000}-\u{10ffff}]/u;

/** SECURITY: a reference that is not read here would be read by libvirt, so that it is an error and not text. */
function decode(text: string): string {
  const decoded = text.replaceAll(
    /&(?:#(\d{1,32});|#x([0-9a-fA-F]{1,32});|([a-z]{2,4});)?/g,
    (whole, decimal, hex, name) => {
      const code = decimal === undefined ? Number.parseInt(hex ?? '', 16) : Number.parseInt(decimal, 10);
      const character = name === undefined && code <= 0x10ffff ? String.fromCodePoint(code) : ENTITIES[name];
      if (character === undefined) throw malformed(`there is no character ${whole}`);
      return character;
    },
  );
  return characters(decoded);
}

function characters(text: string): string {
  if (NO_CHARACTER.test(text)) throw malformed('it has what is no character of XML');
  return text;
}

function malformed(reason: string): TrustError {
  return new TrustError('xml.malformed', 'invalid', `cannot read the XML: ${reason}`);
}
