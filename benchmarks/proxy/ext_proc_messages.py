"""The few messages of Envoy's external processor that a body takes there and back.

Names and numbers from envoy/service/ext_proc/v3/external_processor.proto (Envoy 1.40). Protobuf
skips the fields that are left out.
"""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.message_factory import GetMessageClass

SERVICE, METHOD = "envoy.service.ext_proc.v3.ExternalProcessor", "Process"
_PACKAGE = "envoy.service.ext_proc.v3"
_BYTES, _BOOL = descriptor_pb2.FieldDescriptorProto.TYPE_BYTES, 8
_MESSAGES: dict[str, dict[str, tuple[int, int | str]]] = {
    "HttpBody": {"body": (1, _BYTES), "end_of_stream": (2, _BOOL)},
    "ProcessingRequest": {"request_body": (4, "HttpBody")},
    "BodyMutation": {"body": (1, _BYTES)},
    "CommonResponse": {"body_mutation": (3, "BodyMutation")},
    "BodyResponse": {"response": (1, "CommonResponse")},
    "ProcessingResponse": {"request_body": (3, "BodyResponse")},
}


def message_classes() -> dict[str, Any]:
    """Build the messages, by name."""
    file = descriptor_pb2.FileDescriptorProto(
        name="trimtab_benchmark_ext_proc.proto", package=_PACKAGE, syntax="proto3"
    )
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            added = message.field.add(name=field, number=number, label=1)  # optional
            if isinstance(kind, str):
                added.type, added.type_name = added.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
            else:
                added.type = kind
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))
        for name in _MESSAGES
    }
