// Not run on a device. Compiled against ONNX Runtime's Java API by tests/unit/models/test_mobile_kotlin.py.
package dev.foremesh.mobile

import ai.onnxruntime.OnnxTensor
import ai.onnxruntime.OrtEnvironment
import ai.onnxruntime.OrtSession
import ai.onnxruntime.providers.NNAPIFlags
import java.nio.IntBuffer
import java.nio.LongBuffer
import java.util.EnumSet

/** What an answer may cost. */
enum class Power {
    /** The battery first: one thread that sleeps between sentences, half precision. */
    LOW_POWER,

    /** The next answer first: up to four threads that wait awake for work. */
    FAST_SINGLE_ANSWER,

    /** Many answers in a row without heat: two threads that sleep when there is nothing to do. */
    SUSTAINED_SPEED,
}

/** Where a model runs. The file must fit: see the table in edge/mobile/README.md. */
sealed interface Provider {
    /** ort/model.ort: int64 ids of any length. For the BiLSTM always, for the encoder until a phone was measured. */
    data object Cpu : Provider

    /** ort/float.ort or onnx/float.onnx: int32 ids padded to [tokens], as the export's manifest says. */
    data class Nnapi(val tokens: Int) : Provider
}

/**
 * The seam for tokenisation: text to ids, by the export's tokenizer.json and with the ids that it gives, [CLS] and [SEP]
 * included where it adds them. Not padded. The Rust library `tokenizers` behind JNI reads that file as it is; a port to
 * Kotlin must be compared with it, sentence by sentence, before it is believed.
 */
fun interface Tokenizer {
    fun encode(text: String): IntArray
}

/** The best label, and the logits in the order of labels.json. */
class Answer(val label: String, val logits: FloatArray)

/**
 * A model of an export, open until it is closed. One may be used by several threads.
 *
 * Throws OrtException when the file is none, or when the provider is not in this build of ONNX Runtime.
 */
class IntentModel(
    model: ByteArray,
    private val tokenizer: Tokenizer,
    private val labels: List<String>,
    private val provider: Provider,
    power: Power,
) : AutoCloseable {
    private val environment = OrtEnvironment.getEnvironment()
    private val session: OrtSession = options(provider, power).use { environment.createSession(model, it) }

    /** Which intent [text] expresses. Throws IllegalArgumentException when the tokenizer finds nothing in it. */
    fun answer(text: String): Answer {
        val ids = tokenizer.encode(text)
        require(ids.isNotEmpty()) { "'$text' has no tokens; ask again for the sentence" }
        val inputs = when (provider) {
            is Provider.Cpu -> exact(ids)
            is Provider.Nnapi -> padded(ids, provider.tokens)
        }
        try {
            session.run(inputs, setOf(LOGITS)).use { result ->
                @Suppress("UNCHECKED_CAST")
                val logits = (result.get(0).value as Array<FloatArray>)[0]
                check(logits.size == labels.size) {
                    "the model answers with ${logits.size} logits for ${labels.size} labels; take both from one export"
                }
                return Answer(labels[logits.indices.maxBy { logits[it] }], logits)
            }
        } finally {
            inputs.values.forEach { it.close() }
        }
    }

    override fun close() = session.close()

    private fun exact(ids: IntArray): Map<String, OnnxTensor> {
        val wide = LongArray(ids.size) { ids[it].toLong() }
        return mapOf(
            IDS to OnnxTensor.createTensor(environment, LongBuffer.wrap(wide), longArrayOf(1, ids.size.toLong())),
            LENGTHS to OnnxTensor.createTensor(environment, LongBuffer.wrap(longArrayOf(ids.size.toLong())), ONE),
        )
    }

    private fun padded(ids: IntArray, tokens: Int): Map<String, OnnxTensor> {
        // [PAD] is 0 in every vocabulary of the catalog, and what is longer is cut.
        val whole = ids.copyOf(tokens)
        val length = intArrayOf(minOf(ids.size, tokens))
        return mapOf(
            IDS to OnnxTensor.createTensor(environment, IntBuffer.wrap(whole), longArrayOf(1, tokens.toLong())),
            LENGTHS to OnnxTensor.createTensor(environment, IntBuffer.wrap(length), ONE),
        )
    }

    companion object {
        private const val IDS = "ids"
        private const val LENGTHS = "lengths"
        private const val LOGITS = "logits"
        private const val MOST_THREADS = 4
        private val ONE = longArrayOf(1)

        /**
         * Session options for a provider and a preference; the caller closes them.
         *
         * NNAPI has preferences of these very names (ANEURALNETWORKS_PREFER_LOW_POWER and so on), but ONNX Runtime
         * chooses one itself and has no option for it. What it does have is used: precision, NNAPI's own slow CPU
         * kept out, and the threads of all that NNAPI leaves to ONNX Runtime.
         */
        fun options(provider: Provider, power: Power): OrtSession.SessionOptions {
            val options = OrtSession.SessionOptions()
            val cores = Runtime.getRuntime().availableProcessors()
            val (threads, spin) = when (power) {
                Power.LOW_POWER -> 1 to "0"
                Power.FAST_SINGLE_ANSWER -> minOf(MOST_THREADS, cores) to "1"
                Power.SUSTAINED_SPEED -> minOf(2, cores) to "0"
            }
            options.setIntraOpNumThreads(threads)
            options.setInterOpNumThreads(1)
            options.addConfigEntry("session.intra_op.allow_spinning", spin)
            if (provider is Provider.Nnapi) {
                val flags = EnumSet.of(NNAPIFlags.CPU_DISABLED)
                // Half precision moves logits a little: compare on your sentences before FAST_SINGLE_ANSWER gets it too.
                if (power != Power.FAST_SINGLE_ANSWER) flags.add(NNAPIFlags.USE_FP16)
                options.addNnapi(flags)
            }
            return options
        }
    }
}
