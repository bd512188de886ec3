"""Language models: any OpenAI-compatible endpoint, and Anthropic, through pydantic-ai.

Imported only when such a provider is configured, because it costs two seconds and 90 MiB. Credentials are checked when the
service starts, not at the first incident. The provider's client retries 429 and 5xx by itself (honouring Retry-After) and
gives up in the end with ``Retryable``; what no retry mends (a wrong key, an unknown model) is ``Permanent``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from anthropic import AsyncAnthropic
from openai import AsyncOpenAI
from pydantic_ai import Agent, ModelMessage, ModelSettings, Tool
from pydantic_ai import exceptions as failures
from pydantic_ai.models import Model
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.providers.openai_compatible import OpenAICompatibleProvider
from pydantic_ai.usage import UsageLimits

from kubernaut_ray.errors import Permanent, Retryable
from kubernaut_ray.redact import redact
from kubernaut_ray.settings import LlmSettings
from serve_apps.holmesgpt.models.model import Case, Completion, Feedback, NoAnswer
from serve_apps.holmesgpt.toolbox import Tool as OurTool

_MAX_TOKENS = 8192
_MALFORMED_CALLS = 10
"""How often one tool may be called with arguments that are no JSON object, or a tool that there is not, before giving up."""


class LanguageModel:
    """One configured language model."""

    is_llm = True

    def __init__(self, settings: LlmSettings, key: str, *, retries: int = 4) -> None:
        self.name = f"{settings.provider}:{settings.model}"
        self._settings = settings
        self._client, self._model = _connect(settings, key, retries)

    def converse(self, case: Case) -> LanguageModelConversation:
        return LanguageModelConversation(self._model, self._settings, case, self.name)

    async def close(self) -> None:
        await self._client.close()


def _connect(settings: LlmSettings, key: str, retries: int) -> tuple[AsyncOpenAI | AsyncAnthropic, Model]:
    url, timeout = settings.base_url or None, settings.request_timeout
    if settings.provider == "anthropic":
        anthropic = AsyncAnthropic(api_key=key, base_url=url, timeout=timeout, max_retries=retries)
        return anthropic, AnthropicModel(settings.model, provider=AnthropicProvider(anthropic_client=anthropic))
    openai = AsyncOpenAI(api_key=key, base_url=url, timeout=timeout, max_retries=retries)
    provider = (
        OpenAICompatibleProvider("kubernaut-llm", openai_client=openai) if url else OpenAIProvider(openai_client=openai)
    )
    return openai, OpenAIChatModel(settings.model, provider=provider)


class LanguageModelConversation:
    """One investigation: the messages so far, and the tools of its case."""

    def __init__(self, model: Model, settings: LlmSettings, case: Case, name: str) -> None:
        self._case, self._name, self._settings = case, name, settings
        self._messages: list[ModelMessage] = []
        self._agent = Agent(
            model,
            name="investigation",
            instructions=case.prompt.system,
            tools=[_tool(case, tool) for tool in case.toolbox.tools],
            model_settings=ModelSettings(temperature=settings.temperature, max_tokens=_MAX_TOKENS),
            retries={"tools": _MALFORMED_CALLS, "output": 1},
        )

    async def say(self, feedback: Feedback | None) -> Completion:
        text = self._case.prompt.incident if feedback is None else feedback.text
        try:
            result = await self._agent.run(
                text,
                message_history=self._messages or None,
                usage_limits=UsageLimits(request_limit=self._settings.max_tool_calls + 5),
            )
        except failures.UsageLimitExceeded as error:
            raise NoAnswer(
                f"the model went on calling tools and gave no answer within {self._settings.max_tool_calls} calls"
            ) from error
        except failures.ContentFilterError as error:
            raise NoAnswer(f"{self._name} refused to answer (content filter)") from error
        except failures.UnexpectedModelBehavior:
            # An empty answer or tool calls that never became valid: the loop treats it as unreadable and asks again.
            return Completion("")
        except failures.ModelAPIError as error:
            raise _failure(error, self._name) from error
        self._messages = result.all_messages()
        usage = result.usage
        return Completion(result.output, usage.requests, usage.input_tokens or 0, usage.output_tokens or 0)


def _tool(case: Case, tool: OurTool) -> Tool[object]:
    def bound(name: str) -> Callable[..., Awaitable[str]]:
        async def call(**arguments: Any) -> str:
            return (await case.toolbox.call(name, arguments)).text

        return call

    return Tool.from_schema(bound(tool.name), tool.name, tool.description, tool.schema)


def _failure(error: failures.ModelAPIError, name: str) -> Retryable | Permanent:
    """Say what to do about a provider's refusal; its text may echo a key, so it is redacted and cut."""
    detail = redact(str(error))[:300]
    match error:
        case failures.ModelAuthenticationError():
            return Permanent(f"{name} refused the credentials; check the API key: {detail}", reason="Unauthorized")
        case failures.ModelNotFoundError():
            return Permanent(
                f"{name} is not known at its endpoint; check llm.model and llm.base_url: {detail}",
                reason="ModelNotFound",
            )
        case failures.ModelQuotaExceededError():
            return Permanent(f"{name}: the account's quota is used up: {detail}", reason="QuotaExceeded")
        case failures.ModelRequestRejectedError():
            return Permanent(f"{name} refused the request: {detail}", reason="RequestRejected")
        case failures.ModelRateLimitError():
            return Retryable(f"{name} limits the rate of requests: {detail}", after=error.retry_after)
        case _:
            return Retryable(f"{name} did not answer: {detail}")
