"""The types of TensorFlow's protobuf messages, with the fields that are read.

Reference: tensorflow/core/framework/*.proto and tensorflow/core/protobuf/*.proto
"""

from typing import Any

from ..dtypes import BFLOAT16
from .wire import Enum, Schema

__all__ = [
    "ARRAY_TYPES",
    "BUNDLE_ENTRY",
    "BUNDLE_HEADER",
    "DATA_TYPES",
    "GRAPH",
    "OLD_CHECKPOINT",
    "SAVED_MODEL",
    "SIGNATURE",
    "TENSOR",
    "TYPE_NAMES",
    "VARIABLE",
]

# The element types of tensors with their numbers, and their names here; "" for a type that has no arrays.
_TYPES = {
    **{"FLOAT": (1, "float32"), "DOUBLE": (2, "float64"), "INT32": (3, "int32"), "UINT8": (4, "uint8")},
    **{"INT16": (5, "int16"), "INT8": (6, "int8"), "STRING": (7, ""), "COMPLEX64": (8, "complex64")},
    **{"INT64": (9, "int64"), "BOOL": (10, "bool"), "QINT8": (11, "int8"), "QUINT8": (12, "uint8")},
    **{"QINT32": (13, "int32"), "BFLOAT16": (14, BFLOAT16), "QINT16": (15, "int16"), "QUINT16": (16, "uint16")},
    **{"UINT16": (17, "uint16"), "COMPLEX128": (18, "complex128"), "HALF": (19, "float16"), "RESOURCE": (20, "")},
    **{"VARIANT": (21, ""), "UINT32": (22, "uint32"), "UINT64": (23, "uint64"), "FLOAT8_E5M2": (24, "")},
    **{"FLOAT8_E4M3FN": (25, ""), "INT4": (29, ""), "UINT4": (30, "")},
}
_REFERENCE = 100  # is added to the type of a variable of TensorFlow 1

DATA_TYPES = Enum(
    {f"DT_{name}": number for name, (number, _) in _TYPES.items()}
    | {f"DT_{name}_REF": number + _REFERENCE for name, (number, _) in _TYPES.items()}
)
"""The numbers of element types."""

TYPE_NAMES = {
    number + of_variable: name or theirs.lower()
    for theirs, (number, name) in _TYPES.items()
    for of_variable in (0, _REFERENCE)
}
"""The names of element types by their numbers; types that have no arrays have TensorFlow's names in lower case."""

ARRAY_TYPES = {name for _, name in _TYPES.values() if name}
"""The names of the element types that have arrays."""

SHAPE: Schema = {2: ("dim", [{1: ("size", "int")}]), 3: ("unknown_rank", "bool")}

TENSOR: Schema = {
    1: ("dtype", DATA_TYPES),
    2: ("tensor_shape", SHAPE),
    4: ("tensor_content", "bytes"),
    5: ("float_val", ["float"]),
    6: ("double_val", ["double"]),
    7: ("int_val", ["int"]),
    8: ("string_val", ["bytes"]),
    9: ("scomplex_val", ["float"]),
    10: ("int64_val", ["int"]),
    11: ("bool_val", ["bool"]),
    12: ("dcomplex_val", ["double"]),
    13: ("half_val", ["int"]),
    16: ("uint32_val", ["int"]),
    17: ("uint64_val", ["int"]),
}

SLICE: Schema = {1: ("extent", [{1: ("start", "int"), 2: ("length", "int")}])}

BUNDLE_HEADER: Schema = {1: ("num_shards", "int"), 2: ("endianness", "int")}

BUNDLE_ENTRY: Schema = {
    1: ("dtype", DATA_TYPES),
    2: ("shape", SHAPE),
    3: ("shard_id", "int"),
    4: ("offset", "int"),
    5: ("size", "int"),
    6: ("crc32c", "fixed32"),
    7: ("slices", [SLICE]),
}

OLD_CHECKPOINT: Schema = {
    1: ("meta", {1: ("tensor", [{1: ("name", "string"), 2: ("shape", SHAPE), 3: ("type", DATA_TYPES)}])}),
    2: ("data", {1: ("name", "string"), 2: ("slice", SLICE), 3: ("data", TENSOR)}),
}

# -- graphs ------------------------------------------------------------------------------------------------------------

_FUNCTION_NAME: Schema = {1: ("name", "string")}
_OF_ANY_ATTRIBUTE: dict[int, tuple[str, Any]] = {
    2: ("s", "bytes"),
    3: ("i", "int"),
    4: ("f", "float"),
    5: ("b", "bool"),
    6: ("type", DATA_TYPES),
    7: ("shape", SHAPE),
    8: ("tensor", TENSOR),
}
_OF_LIST: Schema = {number: (name, [kind]) for number, (name, kind) in _OF_ANY_ATTRIBUTE.items()}
ATTRIBUTE: Schema = {
    **_OF_ANY_ATTRIBUTE,
    1: ("list", {**_OF_LIST, 9: ("func", [_FUNCTION_NAME])}),
    10: ("func", _FUNCTION_NAME),
}

NODE: Schema = {
    1: ("name", "string"),
    2: ("op", "string"),
    3: ("input", ["string"]),
    5: ("attr", (ATTRIBUTE,)),
}

_ARGUMENT: Schema = {1: ("name", "string"), 3: ("type", DATA_TYPES)}
FUNCTION: Schema = {
    1: ("signature", {1: ("name", "string"), 2: ("input_arg", [_ARGUMENT]), 3: ("output_arg", [_ARGUMENT])}),
    3: ("node_def", [NODE]),
    4: ("ret", ("string",)),
}

GRAPH: Schema = {1: ("node", [NODE]), 2: ("library", {1: ("function", [FUNCTION])})}

# -- SavedModels -------------------------------------------------------------------------------------------------------

_TENSOR_INFO: Schema = {1: ("name", "string"), 2: ("dtype", DATA_TYPES), 3: ("tensor_shape", SHAPE)}
SIGNATURE: Schema = {1: ("inputs", (_TENSOR_INFO,)), 2: ("outputs", (_TENSOR_INFO,))}

VARIABLE: Schema = {1: ("variable_name", "string"), 7: ("trainable", "bool")}
"""A variable in a collection of TensorFlow 1."""

_SPEC: Schema = {1: ("name", "string"), 2: ("shape", SHAPE), 3: ("dtype", DATA_TYPES)}

_NESTED: dict[int, tuple[str, Any]] = {
    14: ("bool_value", "bool"),
    33: ("tensor_spec_value", _SPEC),
    35: ("bounded_tensor_spec_value", _SPEC),
}
_NESTED |= {
    51: ("list_value", {1: ("values", [_NESTED])}),
    52: ("tuple_value", {1: ("values", [_NESTED])}),
    53: ("dict_value", {1: ("fields", (_NESTED,))}),
    54: ("named_tuple_value", {2: ("values", [{1: ("key", "string"), 2: ("value", _NESTED)}])}),
}

_OBJECT: Schema = {
    1: ("children", [{1: ("node_id", "int"), 2: ("local_name", "string")}]),
    6: ("function", {1: ("concrete_functions", ["string"])}),
    7: ("variable", {3: ("trainable", "bool"), 6: ("name", "string")}),
    8: ("bare_concrete_function", {1: ("concrete_function_name", "string")}),
    9: ("constant", {1: ("operation", "string")}),
}

_TRACED: Schema = {
    2: ("bound_inputs", ["int"]),
    3: ("canonicalized_input_signature", _NESTED),
    4: ("output_signature", _NESTED),
}

SAVED_MODEL: Schema = {
    2: (
        "meta_graphs",
        [
            {
                1: ("meta_info_def", {4: ("tags", ["string"])}),
                2: ("graph_def", GRAPH),
                3: ("saver_def", {3: ("restore_op_name", "string")}),
                4: ("collection_def", ({2: ("bytes_list", {1: ("value", ["bytes"])})},)),
                5: ("signature_def", (SIGNATURE,)),
                7: ("object_graph_def", {1: ("nodes", [_OBJECT]), 2: ("concrete_functions", (_TRACED,))}),
            }
        ],
    ),
}
