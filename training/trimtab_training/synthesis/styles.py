"""How queries are to sound: for each style an instruction, ways to vary, and examples.

The examples are for base models, which continue a text instead of following an instruction. They
come from several fields on purpose, and the user's own replace them (`--examples`).
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Example:
    """A query as real users ask it.

    Attributes:
        query: The query.
        document: Text of a document that answers it, or empty where it is not known.
    """

    query: str
    document: str = ""


@dataclass(frozen=True)
class Style:
    """One way to ask.

    Attributes:
        name: Its name on the command line.
        instruction: What an instructed model is told.
        lead: What stands above the examples that a base model continues.
        angles: Ways in which the queries of one document differ from one another.
        examples: Pairs for base models.
    """

    name: str
    instruction: str
    lead: str
    angles: tuple[str, ...]
    examples: tuple[Example, ...] = ()


_ANGLES = (
    "about the main subject",
    "about one detail in the document",
    "in words that the document does not use",
    "as short as still makes sense",
    "from somebody with a practical problem to solve",
    "narrowed to a special case that the document covers",
)

QUESTION = Style(
    "question",
    "Write questions that this document answers. A question names what it is about, never "
    "mentions the document or the text, and does not contain its answer.",
    "After each text stands a question that somebody types into a search engine and that the text "
    "answers.",
    (
        "about the main subject",
        "about one detail in the document",
        "in words that the document does not use",
        "that begins with how",
        "that begins with why or what",
        "from somebody with a practical problem to solve",
    ),
    (
        Example(
            "how long do I have to return something I bought?",
            "Refunds. Goods may be sent back within thirty days if the seal is unbroken.",
        ),
        Example(
            "why do leaves change colour in autumn?",
            "Senescence. As days shorten, chlorophyll breaks down and other pigments show.",
        ),
        Example(
            "what is the largest planet in the solar system?",
            "Jupiter. A gas giant with more than twice the mass of all other planets together.",
        ),
        Example(
            "how do I stop a pod from being restarted again and again?",
            "CrashLoopBackOff. The container exits soon after start; check logs and probes.",
        ),
        Example(
            "who pays when a rented flat's heating breaks?",
            "Maintenance. The lessor bears the cost of repairs to installations of the building.",
        ),
    ),
)

KEYWORDS = Style(
    "keywords",
    "Write what people type into a search box to find this document: two to five keywords, "
    "no sentence, no punctuation.",
    "After each text stand the few keywords that somebody types into a search box to find it.",
    (
        "the main subject",
        "one detail in the document",
        "words that the document does not use",
        "two words only",
        "the most specific terms",
        "the terms of somebody new to the subject",
    ),
    (
        Example(
            "return opened item refund",
            "Refunds. Goods may be sent back within thirty days if the seal is unbroken.",
        ),
        Example(
            "autumn leaf colour cause",
            "Senescence. As days shorten, chlorophyll breaks down and other pigments show.",
        ),
        Example(
            "biggest planet mass",
            "Jupiter. A gas giant with more than twice the mass of all other planets together.",
        ),
        Example(
            "kubernetes pod keeps restarting",
            "CrashLoopBackOff. The container exits soon after start; check logs and probes.",
        ),
        Example(
            "landlord heating repair cost",
            "Maintenance. The lessor bears the cost of repairs to installations of the building.",
        ),
    ),
)

LAYPERSON = Style(
    "layperson",
    "Write what somebody without any training in the field types into a search box when this "
    "document is what they need. They do not know the technical terms: use everyday words only, "
    "and describe what they see, feel or want.",
    "After each text, which experts wrote, stands what somebody who does not know the technical "
    "words types into a search box to find it.",
    (
        "two to four everyday words",
        "what it looks or feels like",
        "what it leads to in daily life",
        "as one would tell a friend",
        "the plainest name for it",
        "a full sentence in everyday words",
    ),
    (
        Example(
            "heart attack",
            "Myocardial infarction. Necrosis of heart muscle after its blood supply is cut off.",
        ),
        Example(
            "nose keeps bleeding",
            "Epistaxis. Acute haemorrhage from the nostril, nasal cavity or nasopharynx.",
        ),
        Example(
            "loan to buy a house",
            "Residential mortgage. Credit secured by a lien on the purchased real property.",
        ),
        Example(
            "ear blocked with wax",
            "Cerumen impaction. Accumulation of cerumen that occludes the external auditory canal.",
        ),
        Example(
            "fired on the spot",
            "Summary dismissal. Termination of employment without notice for serious cause.",
        ),
        Example(
            "skin burns easily in the sun",
            "Cutaneous photosensitivity. Abnormal reaction of the skin to ultraviolet light.",
        ),
        Example(
            "windows that keep the heat in",
            "Low-emissivity glazing. Panes with a coating that reflects long-wave radiation.",
        ),
        Example(
            "hair falling out in patches",
            "Alopecia areata. Autoimmune loss of hair in circumscribed areas of the scalp.",
        ),
    ),
)

COMMAND = Style(
    "command",
    "Write what somebody wants to get done when this document is what they need: short "
    "imperatives that begin with a verb, never the name of the command or function itself.",
    "After each text stands, as a short imperative, what somebody wants to get done who needs it.",
    (
        "the most common task",
        "a task that needs one of its options",
        "in words that the document does not use",
        "as short as still makes sense",
        "a task as part of a larger one",
        "undoing or checking something",
    ),
    (
        Example(
            "find files larger than 100 MB",
            "find. Walks a directory tree; -size +100M keeps what is larger than that.",
        ),
        Example(
            "show what changed since the last commit",
            "git diff. Compares the working tree with the index or with a revision.",
        ),
        Example(
            "turn on the lights in the kitchen",
            "light.turn_on. Switches on lights of an area, with brightness and colour.",
        ),
        Example(
            "shrink a video for the web",
            "ffmpeg. Transcodes media; -crf sets the quality, -vf scale the size.",
        ),
        Example(
            "undo my last booking",
            "Cancellation. A reservation may be withdrawn free of charge for a day.",
        ),
    ),
)

EXAMPLE = Style(
    "example",
    "Write queries that this document answers, in the manner of the real queries below: the same "
    "length, the same wording, the same habits, but about this document.",
    "After each text stands a query that somebody types to find it.",
    _ANGLES,
)

STYLES = {style.name: style for style in (QUESTION, KEYWORDS, LAYPERSON, COMMAND, EXAMPLE)}
TEMPLATE = "template"
"""Name of the style that the user's own template makes."""
