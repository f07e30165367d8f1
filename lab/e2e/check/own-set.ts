/** A file of a set: its content, with mode and owner, a directory, or a link that leads nowhere. */
export type SetFile =
  | string
  | Uint8Array
  | { readonly content: string; readonly mode: number }
  | { readonly kind: 'directory' | 'dangling' };

/** The files of one side, by what they are; each layout has its own names for them. */
export interface OwnSet {
  readonly name: string;
  readonly role: 'server' | 'client';
  readonly ca?: SetFile;
  readonly crl?: SetFile;
  readonly cert?: SetFile;
  readonly key?: SetFile;
  /** QEMU's DH parameters; good ones where left out. */
  readonly dh?: SetFile;
}
