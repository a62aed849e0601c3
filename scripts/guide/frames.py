# ruff: noqa: E501 - tables of sentences
"""Sentence frames around a phrase, by language and kind of phrase: those to train on and those kept back.

No frame of `HELD` may occur in `TRAIN`; a test holds the training text against them.
"""

from __future__ import annotations

TRAIN: dict[str, dict[str, list[str]]] = {
    "en": {
        "np": [
            "what is {}", "what's {}", "what is {}", "whats {}", "tell me about {}", "explain {}", "what does {} mean", "what do you know about {}",
            "can you explain {}", "i have a question about {}", "describe {}", "info on {}", "help with {}", "tell me more about {}",
            "what about {}", "give me details on {}", "how does {} work", "what is {} for", "please explain {} to me", "i want to know about {}",
            "could you tell me about {}", "what can you say about {}", "i don't understand {}", "how about {}", "{} please", "what is meant by {}",
            "i need help with {}", "anything on {}", "do you know {}", "teach me about {}", "talk about {}", "what exactly is {}",
        ],
        "do": [
            "how do i {}", "how can i {}", "how to {}", "how do you {}", "i want to {}", "what is the way to {}", "can i {}", "help me {}",
            "what do i have to do to {}", "is it possible to {}", "how would i {}", "show me how to {}", "i need to {}", "what should i type to {}",
            "explain how to {}", "tell me how to {}", "is there a way to {}", "i would like to {}", "what's the best way to {}", "how should i {}",
            "could you tell me how to {}", "do you know how to {}", "i'm trying to {}", "what is the command to {}", "where can i {}",
        ],
        "ask": [
            "{}", "{}", "{}", "{}", "{}", "{} please", "tell me, {}", "can you tell me {}", "i want to know {}", "question: {}", "do you know {}",
            "i wonder {}", "please tell me {}", "quick question, {}", "so {}", "ok, {}", "and {}", "but {}",
        ],
    },
    "es": {
        "np": [
            "qué es {}", "qué es {}", "que es {}", "cuéntame sobre {}", "explica {}", "explícame {}", "qué significa {}", "qué sabes de {}", "puedes explicar {}",
            "tengo una pregunta sobre {}", "describe qué es {}", "información sobre {}", "ayuda con {}", "cuéntame más de {}", "y {}", "dame detalles de {}",
            "cómo funciona {}", "para qué sirve {}", "explícame por favor {}", "quiero saber sobre {}", "podrías hablarme de {}", "qué puedes decir de {}",
            "no entiendo {}", "háblame de {}", "{} por favor", "qué se entiende por {}", "necesito ayuda con {}", "algo sobre {}", "conoces {}",
            "qué me dices de {}", "qué es exactamente {}", "cuál es {}",
        ],
        "do": [
            "cómo puedo {}", "cómo se puede {}", "como puedo {}", "quiero {}", "de qué manera puedo {}", "puedo {}", "ayúdame a {}", "qué tengo que hacer para {}",
            "es posible {}", "cómo podría {}", "enséñame a {}", "necesito {}", "qué escribo para {}", "explica cómo {}", "dime cómo {}", "hay forma de {}",
            "me gustaría {}", "cuál es la mejor manera de {}", "cómo debo {}", "podrías decirme cómo {}", "sabes cómo {}", "estoy intentando {}",
            "con qué comando puedo {}", "qué hay que hacer para {}", "cómo hago para {}", "cómo {}",
        ],
        "ask": [
            "{}", "{}", "{}", "{}", "{}", "{} por favor", "dime, {}", "puedes decirme {}", "quiero saber {}", "pregunta: {}", "sabes {}",
            "me pregunto {}", "por favor dime {}", "una pregunta rápida, {}", "entonces {}", "vale, {}", "y {}", "pero {}",
        ],
    },
}  # fmt: skip

HELD: dict[str, dict[str, list[str]]] = {
    "en": {
        "np": [
            "what should i know about {}", "could you describe {} for me", "i'd like some information about {}", "what's the story with {}",
            "help me understand {}", "please describe {} briefly", "i keep reading about {}, what is it", "can you say something about {}",
            "what is the purpose of {}", "may i ask about {}", "i need an explanation of {}", "in simple words, what is {}", "{}: what is that",
            "i am curious about {}", "what is the meaning of {}", "give me a short summary of {}", "my question is about {}", "what's up with {}",
            "would you explain {}", "somebody mentioned {} to me, what is it", "what is the deal with {}", "define {}",
            "i was told to read about {}", "what kind of thing is {}", "remind me what {} is", "have you heard of {}", "i would love to understand {}", "could we talk about {}", "i'm looking for help on {}", "what can i do with {}", "where does {} come in", "in a few words: {}",
        ],
        "do": [
            "what steps do i take to {}", "what is needed to {}", "i have to {}, how", "could you help me to {}", "my goal is to {}", "please show me how to {}",
            "how does one {}", "what must i do in order to {}", "am i able to {}", "i have no idea how to {}", "what's the easiest way to {}",
            "how is it possible to {}", "i can't figure out how to {}", "what would be the way to {}", "teach me how to {}", "please help me {}",
            "what is the right way to {}", "give me instructions to {}", "how might i {}", "someone asked me to {}, how do i do that",
            "what does it take to {}", "i was wondering how to {}", "how do people {}", "what's the trick to {}", "tell me what to type if i want to {}", "any idea how to {}", "i plan to {}, what should i know", "walk me through how to {}",
        ],
        "ask": [
            "excuse me, {}", "i'd like to know {}", "could you please tell me {}", "one more thing: {}", "i was asking myself {}", "maybe you know {}",
            "here is my question: {}", "let me ask you: {}", "just out of curiosity, {}", "would you mind telling me {}", "sorry, but {}", "i really need to know {}",
            "may i know {}", "there is something i do not get: {}", "my boss asks {}", "good question for you: {}", "i have been wondering {}", "first of all, {}", "say, {}", "hmm, tell me: {}",
        ],
    },
    "es": {
        "np": [
            "qué debería saber sobre {}", "podrías describirme {}", "me gustaría información sobre {}", "qué pasa con {}", "ayúdame a entender {}",
            "describe brevemente {}", "he leído algo de {}, qué es", "puedes decir algo sobre {}", "cuál es el propósito de {}", "puedo preguntarte por {}",
            "necesito una explicación de {}", "en palabras sencillas, qué es {}", "{}: qué es eso", "tengo curiosidad por {}", "cuál es el significado de {}",
            "hazme un resumen de {}", "mi pregunta es sobre {}", "me puedes explicar {}", "me hablaron de {}, qué es", "de qué va {}", "podrías definir {}",
            "qué hay que saber de {}",
            "me dijeron que leyera sobre {}", "qué clase de cosa es {}", "recuérdame qué es {}", "has oído hablar de {}", "me encantaría entender {}", "podemos hablar de {}", "busco ayuda sobre {}", "qué puedo hacer con {}", "dónde entra {}", "en pocas palabras: {}",
        ],
        "do": [
            "qué pasos sigo para {}", "qué hace falta para {}", "tengo que {}, cómo lo hago", "podrías ayudarme a {}", "mi objetivo es {}", "por favor enséñame a {}",
            "cómo logro {}", "qué debo hacer para {}", "soy capaz de {}", "no tengo idea de cómo {}", "cuál es la forma más fácil de {}", "cómo es posible {}",
            "no consigo averiguar cómo {}", "de qué forma se puede {}", "muéstrame cómo {}", "ayúdame por favor a {}", "cuál es la forma correcta de {}",
            "dame instrucciones para {}", "cómo se hace para {}", "me pidieron {}, cómo se hace",
            "qué se necesita para {}", "me preguntaba cómo {}", "cómo hace la gente para {}", "cuál es el truco para {}", "dime qué escribir si quiero {}", "alguna idea de cómo {}", "pienso {}, qué debo saber", "guíame para {}",
        ],
        "ask": [
            "perdona, {}", "me gustaría saber {}", "podrías decirme por favor {}", "una cosa más: {}", "me estaba preguntando {}", "quizá sepas {}",
            "esta es mi pregunta: {}", "déjame preguntarte: {}", "solo por curiosidad, {}", "te importaría decirme {}", "disculpa, pero {}", "de verdad necesito saber {}",
            "se puede saber {}", "hay algo que no entiendo: {}", "mi jefe pregunta {}", "buena pregunta para ti: {}", "llevo tiempo preguntándome {}", "antes de nada, {}", "a ver, {}", "mmm, dime: {}",
        ],
    },
}  # fmt: skip

LEAD = {
    "en": ["hi,", "Hi!", "hello,", "Hello!", "hey,", "Hey guide,", "please,", "I am new here.", "Sorry,", "Thanks!", "OK,", "One question:", "Another question:", "Good morning.", "Hi there,", "I have llamada installed.", "Hmm,", "I'm on Linux.", "I use a Mac."],
    "es": ["hola,", "¡Hola!", "Hola.", "buenas,", "oye,", "Oye guide,", "por favor,", "Soy nuevo aquí.", "Perdón,", "¡Gracias!", "Vale,", "Una pregunta:", "Otra pregunta:", "Buenos días.", "Buenas tardes,", "Tengo llamada instalado.", "Mmm,", "Uso Linux.", "Tengo un Mac."],
}  # fmt: skip
LEAD_HELD = {
    "en": ["Good evening,", "Dear guide,", "Right,", "I just started with this.", "Well,"],
    "es": ["Buenas noches,", "Querido guide,", "Bien,", "Acabo de empezar con esto.", "Bueno,"],
}
TAIL = {
    "en": ["please?", "please", "thanks", "in llamada?", "in llamada", "? Thanks!", "? I don't know.", "with llamada?", "here?", "exactly?", "? thank you"],
    "es": ["por favor", "por favor?", "gracias", "en llamada?", "en llamada", "? ¡Gracias!", "? No lo sé.", "con llamada?", "aquí?", "exactamente?", "? muchas gracias"],
}  # fmt: skip
TAIL_HELD = {
    "en": ["? I would be grateful.", "if I may ask?", "in this program?"],
    "es": ["? Te lo agradecería.", "si puedo preguntar?", "en este programa?"],
}
