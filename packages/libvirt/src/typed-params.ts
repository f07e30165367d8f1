import { TrustError } from '@virt-trust/base/error.ts';
import { encodeXdrUnsigned } from './xdr.ts';
import {
  type XdrCodec,
  xdrBoolean,
  xdrDouble,
  xdrHyper,
  xdrInteger,
  xdrText,
  xdrUnsigned,
  xdrUnsignedHyper,
} from './xdr-codec.ts';

/** A value of libvirt's with its type (`virTypedParameter`); `llong` and `ullong` have 64 bits. */
export type TypedValue =
  | { readonly kind: 'int' | 'uint' | 'double'; readonly value: number }
  | { readonly kind: 'llong' | 'ullong'; readonly value: bigint }
  | { readonly kind: 'boolean'; readonly value: boolean }
  | { readonly kind: 'string'; readonly value: string };

/** A named value of libvirt's; lists of them may have a name more than once. */
export type TypedParameter = TypedValue & { readonly name: string };

/** A name's length without its NUL (libvirt-common.h, VIR_TYPED_PARAM_FIELD_LENGTH). */
const NAME_LIMIT = 79;

const name = xdrText(NAME_LIMIT);
const text = xdrText();

/** In the order of libvirt's numbers, from 1 (libvirt-common.h, `virTypedParameterType`). */
const KINDS: readonly TypedValue['kind'][] = [
  'int',
  'uint',
  'llong',
  'ullong',
  'double',
  'boolean',
  'string',
];

/** remote_protocol.x, `remote_typed_param`. */
export const typedParameter: XdrCodec<TypedParameter> = {
  encode: (parameter) =>
    Buffer.concat([
      name.encode(parameter.name),
      encodeXdrUnsigned(KINDS.indexOf(parameter.kind) + 1),
      encodeValue(parameter),
    ]),
  decode: (reader) => {
    const field = name.decode(reader);
    const type = reader.unsigned();
    const kind = KINDS[type - 1];
    switch (kind) {
      case 'int':
        return { name: field, kind, value: xdrInteger.decode(reader) };
      case 'uint':
        return { name: field, kind, value: xdrUnsigned.decode(reader) };
      case 'llong':
        return { name: field, kind, value: xdrHyper.decode(reader) };
      case 'ullong':
        return { name: field, kind, value: xdrUnsignedHyper.decode(reader) };
      case 'double':
        return { name: field, kind, value: xdrDouble.decode(reader) };
      case 'boolean':
        return { name: field, kind, value: xdrBoolean.decode(reader) };
      case 'string':
        return { name: field, kind, value: text.decode(reader) };
      default:
        throw new TrustError(
          'rpc.malformed',
          'failed',
          `cannot read libvirt's message: a parameter of type ${type}`,
        );
    }
  },
};

function encodeValue(parameter: TypedValue): Uint8Array {
  switch (parameter.kind) {
    case 'int':
      return xdrInteger.encode(parameter.value);
    case 'uint':
      return xdrUnsigned.encode(parameter.value);
    case 'llong':
      return xdrHyper.encode(parameter.value);
    case 'ullong':
      return xdrUnsignedHyper.encode(parameter.value);
    case 'double':
      return xdrDouble.encode(parameter.value);
    case 'boolean':
      return xdrBoolean.encode(parameter.value);
    case 'string':
      return text.encode(parameter.value);
  }
}
