//! Templates of families whose checkpoints have none: what their own code writes around the turns.

/// The turns as the `PurePromptBuilder` of Prismatic models joins them. The space behind `Out:` is a token of its own in
/// Llama's vocabulary, with which OpenVLA's actions begin.
pub(crate) const PRISMATIC: &str = "\
    {%- for message in messages -%}\
        {%- if message['role'] == 'system' -%}{{ raise_exception('there is no system prompt') }}{%- endif -%}\
        {%- if message['role'] == 'user' -%}{{ 'In: ' }}{%- endif -%}\
        {%- for part in message['content'] if part['type'] == 'text' -%}{{ part['text'] | trim }}{%- endfor -%}\
        {%- if message['role'] == 'user' -%}{{ '\\nOut: ' }}{%- else -%}{{ eos_token }}{%- endif -%}\
    {%- endfor -%}";

/// What the processor of PaliGemma makes of a question and its answer: the images, the beginning of the text, the question and a line
/// break, which are a prefix, and the answer with the end of the text.
pub(crate) const PREFIX: &str = "\
    {%- set question = messages[0] -%}
    {%- set images = question['content'] | selectattr('type', 'equalto', 'image') | list -%}
    {%- if messages | length > 2 or question['role'] != 'user' or messages[-1]['role'] == 'system' or not images -%}
        {{ raise_exception('PaliGemma reads one question with images, and one answer to it') }}
    {%- endif -%}
    {%- for image in images -%}{{ '<image>' }}{%- endfor -%}
    {{ bos_token }}
    {%- for part in question['content'] if part['type'] == 'text' -%}{{ part['text'] }}{%- endfor -%}
    {{ '\\n' }}
    {%- for answer in messages[1:] -%}
        {%- for part in answer['content'] if part['type'] == 'text' -%}{{ part['text'] }}{%- endfor -%}
        {{ eos_token }}
    {%- endfor -%}";
